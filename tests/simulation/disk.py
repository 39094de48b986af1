"""The store's own seams, simulated: the threads that do its work, its commits, and its reserve."""

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

R = TypeVar("R")

ROOM_OF_RESERVE = 300  # commits that fit into what the reserve gives up


class Fault(StrEnum):
    """What may happen to one commit."""

    UNDONE = "commit that failed"
    LASTED = "commit that failed and lasted"
    CRASH_BEFORE = "crash before a commit"
    CRASH_AFTER = "crash between commit and answer"


class Disk:
    """Makes transactions durable, and fails to when it is told to; it outlives the server."""

    def __init__(self, seen: Counter[str]) -> None:
        self._seen = seen
        self._faults: deque[tuple[int, Fault]] = deque()
        self._room: int | None = None  # commits, None while the disk is not full
        self._broken = False
        self.crash: Callable[[], None] = _nothing
        self.lasted: Callable[[], None] = _nothing
        self.is_dead: Callable[[], bool] = _never
        self.commits = 0

    @property
    def is_full(self) -> bool:
        """Tell whether there is no room but what the reserve gave up."""
        return self._room is not None

    @property
    def is_well(self) -> bool:
        """Tell whether commits succeed, as far as is planned."""
        return self._room is None and not self._broken and not self._faults

    def fail(self, fault: Fault, *, after: int) -> None:
        """Let something happen to one of the commits to come."""
        self._faults.append((self.commits + after, fault))

    def fill(self) -> None:
        """Leave no room."""
        if self._room is None:
            self._room = 0

    def break_down(self) -> None:
        """Fail each commit from now on."""
        self._broken = True

    def heal(self) -> None:
        """Make room, and fail no more."""
        self._room, self._broken = None, False
        self._faults.clear()

    def give_room(self) -> None:
        """Let some commits through although the disk is full."""
        if self._room is not None:
            self._room = ROOM_OF_RESERVE

    def commit(self, connection: sqlite3.Connection) -> None:
        """Make the open transaction durable, or fail."""
        if self.is_dead():
            raise _anew(BROKEN)
        self.commits += 1
        if self._broken:
            self._seen["commit on a broken disk"] += 1
            raise _anew(BROKEN)
        if self._room == 0:
            self._seen["commit on a full disk"] += 1
            raise _anew(FULL)
        if self._room is not None:
            self._room -= 1
        fault = self._fault()
        if fault is not None:
            self._seen[fault] += 1
        if fault is Fault.CRASH_BEFORE:
            self.crash()
        if fault in (Fault.UNDONE, Fault.CRASH_BEFORE):
            raise _anew(BROKEN)
        connection.execute("COMMIT")
        if fault is Fault.CRASH_AFTER:
            self.crash()
        if fault is Fault.LASTED:
            self.lasted()
            raise _anew(BROKEN)

    def _fault(self) -> Fault | None:
        if self._faults and self._faults[0][0] <= self.commits:
            return self._faults.popleft()[1]
        return None


class SimulatedReserve(Reserve):
    """Room on the simulated disk."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(Path("reserve"))
        self._disk = disk

    def take(self) -> None:
        """Claim the room, as far as there is any."""
        if self._disk.is_full:
            raise OSError(28, "no space left on the simulated disk")

    def describe_shortage(self) -> str:
        """Return the same words in every run."""
        return "the simulated disk is full"

    def give_up(self) -> None:
        """Give the room back."""
        self._disk.give_room()


class SimulatedRunner:
    """Does work in its order, some turns of the loop after it was given, as a thread would."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._work: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._working: asyncio.Task[None] | None = None
        self._closed = False

    async def run(self, work: Callable[[], R]) -> R:
        """Do one piece of work; it goes on to its end even when the caller is cancelled."""
        if self._closed:
            raise StoreClosed
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._work.append((work, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._go_on())
        return await future

    def close(self) -> None:
        """Take no more work."""
        self._closed = True

    async def _go_on(self) -> None:
        try:
            while self._work:
                await self._wait()
                work, future = self._work.popleft()
                if future.done():
                    continue
                try:
                    result = work()
                except Exception as exc:  # whose work it was is told
                    await self._wait()
                    if not future.done():
                        future.set_exception(exc)
                else:
                    await self._wait()
                    if not future.done():
                        future.set_result(result)
        finally:
            self._working = None

    async def _wait(self) -> None:
        chance = self._random.random()
        if chance < 0.05:
            await asyncio.sleep(chance / 10)  # up to 5 ms: the disk is busy
        elif chance < 0.5:
            await asyncio.sleep(0)


def _nothing() -> None:
    """Do nothing."""


def _never() -> bool:
    return False


def _anew(error: sqlite3.OperationalError) -> sqlite3.OperationalError:
    """Return such an error for one raise: its traceback keeps everything that it passes."""
    return sqlite_error(error.sqlite_errorcode)
