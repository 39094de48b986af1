"""Simulated parts of the store: its threads, its commits, and its reserve file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from poussetaches.core.errors import StoreClosed
from poussetaches.store.sqlite.reserve import Reserve
from tests.store.sqlite_files import BROKEN, FULL, sqlite_error

P = TypeVar("P")
R = TypeVar("R")

RESERVE_COMMITS = 300  # commits that fit into the space of the reserve


class Fault(StrEnum):
    """A fault in one commit."""

    UNDONE = "commit that failed"
    STORED = "commit that failed and was stored"
    CRASH_BEFORE = "crash before a commit"
    CRASH_AFTER = "crash between commit and answer"


class Disk:
    """Commits transactions, or fails as planned; outlives the server."""

    def __init__(self, seen: Counter[str]) -> None:
        self._seen = seen
        self._faults: deque[tuple[int, Fault]] = deque()
        self._commits_left: int | None = None  # commits, None while the disk is not full
        self._broken = False
        self.crash: Callable[[], None] = _nothing
        self.failed_commit_stored: Callable[[], None] = _nothing
        self.is_dead: Callable[[], bool] = _never
        self.commits = 0

    @property
    def is_full(self) -> bool:
        """Whether there is no space except that of the reserve."""
        return self._commits_left is not None

    @property
    def is_healthy(self) -> bool:
        """Whether no commit is planned to fail."""
        return self._commits_left is None and not self._broken and not self._faults

    def fail(self, fault: Fault, *, after: int) -> None:
        """Inject a fault into a later commit."""
        self._faults.append((self.commits + after, fault))

    def fill(self) -> None:
        """Leave no space."""
        if self._commits_left is None:
            self._commits_left = 0

    def begin_io_errors(self) -> None:
        """Fail each commit from now on."""
        self._broken = True

    def repair(self) -> None:
        """Free space, and stop failing."""
        self._commits_left, self._broken = None, False
        self._faults.clear()

    def add_reserve_space(self) -> None:
        """Allow some commits although the disk is full."""
        if self._commits_left is not None:
            self._commits_left = RESERVE_COMMITS

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit the open transaction, or fail."""
        if self.is_dead():
            raise _copy_of(BROKEN)
        self.commits += 1
        if self._broken:
            self._seen["commit on a broken disk"] += 1
            raise _copy_of(BROKEN)
        if self._commits_left == 0:
            self._seen["commit on a full disk"] += 1
            raise _copy_of(FULL)
        if self._commits_left is not None:
            self._commits_left -= 1
        fault = self._fault()
        if fault is not None:
            self._seen[fault] += 1
        if fault is Fault.CRASH_BEFORE:
            self.crash()
        if fault in (Fault.UNDONE, Fault.CRASH_BEFORE):
            raise _copy_of(BROKEN)
        connection.execute("COMMIT")
        if fault is Fault.CRASH_AFTER:
            self.crash()
        if fault is Fault.STORED:
            self.failed_commit_stored()
            raise _copy_of(BROKEN)

    def _fault(self) -> Fault | None:
        if self._faults and self._faults[0][0] <= self.commits:
            return self._faults.popleft()[1]
        return None


class SimulatedReserve(Reserve):
    """The reserve file of the simulated disk."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(Path("reserve"))
        self._disk = disk

    def claim(self) -> None:
        """Allocate the file, if the disk has space."""
        if self._disk.is_full:
            raise OSError(28, "no space left on the simulated disk")

    def describe_shortage(self) -> str:
        """Return a constant text: numbers would differ between runs."""
        return "the simulated disk is full"

    def release(self) -> None:
        """Release the file's space."""
        self._disk.add_reserve_space()


class SimulatedRunner:
    """Runs functions in order, some turns of the loop later, as a thread would.

    Like a thread's runner, it runs some brief functions at once.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._work: deque[tuple[Steps, asyncio.Future[None]]] = deque()
        self._working: asyncio.Task[None] | None = None
        self._closed = False

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Run a function; it completes even if the caller is cancelled."""
        if is_brief and self._may_run_now():
            return work()
        steps = Steps(work)
        await self._later(steps)
        result: R = steps.value
        return result

    async def run_commit(
        self,
        commit: Callable[[P | None], R],
        *,
        prepare: Callable[[], P] | None,
        settle: Callable[[R], None],
        is_lone: bool,
    ) -> R:
        """Run functions with nothing between them; they complete if the caller is cancelled."""
        steps = Steps(prepare or _nothing, commit, settle)
        is_begun = prepare is not None and self._may_run_now()
        if is_begun:
            steps.run_first()
        if is_begun and is_lone and self._random.random() < 0.5:
            steps.run_rest()
        else:
            await self._later(steps)
        result: R = steps.value
        return result

    def close(self) -> None:
        """Refuse further functions."""
        self._closed = True

    def _may_run_now(self) -> bool:
        if self._closed:
            raise StoreClosed
        is_free = self._working is None or self._working.done()
        return is_free and self._random.random() < 0.7

    async def _later(self, steps: Steps) -> None:
        if self._closed:
            raise StoreClosed
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work.append((steps, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work_off())
        await future

    async def _work_off(self) -> None:
        try:
            while self._work:
                await self._wait()
                steps, future = self._work.popleft()
                if future.done() and not steps.has_begun:
                    continue
                try:
                    steps.run_first()
                    steps.run_second()
                    await self._wait()
                    steps.run_last()
                except Exception as exc:  # raised to the caller
                    await self._wait()
                    if not future.done():
                        future.set_exception(exc)
                else:
                    if not future.done():
                        future.set_result(None)
        finally:
            self._working = None

    async def _wait(self) -> None:
        chance = self._random.random()
        if chance < 0.05:
            await asyncio.sleep(chance / 10)  # up to 5 ms: the disk is busy
        elif chance < 0.5:
            await asyncio.sleep(0)


class Steps:
    """Functions that run one after another; the second gets the result of the first."""

    def __init__(
        self,
        first: Callable[[], Any],
        second: Callable[[Any], Any] | None = None,
        last: Callable[[Any], None] | None = None,
    ) -> None:
        self.value: Any = None
        self.has_begun = False
        self._first = first
        self._second = second
        self._last = last

    def run_first(self) -> None:
        """Run the first function, unless it has run."""
        if not self.has_begun:
            self.has_begun = True
            self.value = self._first()

    def run_second(self) -> None:
        """Run the second function, whose result replaces the first's."""
        if self._second is not None:
            self.value = self._second(self.value)

    def run_last(self) -> None:
        """Run the last function."""
        if self._last is not None:
            self._last(self.value)

    def run_rest(self) -> None:
        """Run all functions but the first."""
        self.run_second()
        self.run_last()


def _nothing() -> None:
    """Do nothing."""


def _never() -> bool:
    return False


def _copy_of(error: sqlite3.OperationalError) -> sqlite3.OperationalError:
    """Return a new error for each raise: a traceback keeps references to all its frames."""
    return sqlite_error(error.sqlite_errorcode)
