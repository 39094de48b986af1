"""Runners of a store's work: in a separate thread, or in the caller's."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from poussetaches.core.errors import StoreClosed
from poussetaches.store.pace import Pace

P = TypeVar("P")
R = TypeVar("R")


class Runner(Protocol):
    """Runs functions one after another, in the order of the calls."""

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Run a function to its end and return its result.

        A brief one mostly computes, and for a few milliseconds at most.
        """

    async def run_commit(
        self,
        commit: Callable[[P | None], R],
        *,
        prepare: Callable[[], P] | None,
        settle: Callable[[R], None],
        is_lone: bool,
    ) -> R:
        """Run a brief function, if any, then one that waits for the disk; return its result.

        The event loop calls ``settle`` with that result before anything else runs. A lone commit
        has nothing to gain from a thread, unless the disk is slow.
        """

    def close(self) -> None:
        """Wait for pending functions, and refuse further ones."""


class InlineRunner:
    """Runs functions in the caller's thread, which makes the order of all steps predictable."""

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Run a function now."""
        return work()

    async def run_commit(
        self,
        commit: Callable[[P | None], R],
        *,
        prepare: Callable[[], P] | None,
        settle: Callable[[R], None],
        is_lone: bool,
    ) -> R:
        result = await self.run(lambda: commit(None if prepare is None else prepare()))
        settle(result)
        return result

    def close(self) -> None:
        """Do nothing: there is nothing to wait for."""


class ThreadRunner:
    """Runs functions in one thread, so that waiting for the disk does not block the event loop.

    Brief functions run on the event loop when their turn comes, unless they took too long lately.
    """

    def __init__(self, name: str, pace: Pace | None = None) -> None:
        self._name = name
        self._pace = pace or Pace(time.monotonic)
        self._waiting: deque[_Job] = deque()
        self._current: _Job | None = None  # the thread runs it
        self._thread: Thread | None = None
        self._handed_over: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = False

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Run a function; it runs to its end even if the caller is cancelled."""
        job = _Job(brief=work) if is_brief else _Job(blocking=lambda _: work())
        result: R = await self._run(job)
        return result

    async def run_commit(
        self,
        commit: Callable[[P | None], R],
        *,
        prepare: Callable[[], P] | None,
        settle: Callable[[R], None],
        is_lone: bool,
    ) -> R:
        job = _Job(brief=prepare, blocking=commit, settle=settle, is_lone=is_lone)
        result: R = await self._run(job)
        return result

    def close(self) -> None:
        """Wait for the thread to end."""
        self._closed = True
        if self._thread is None:
            return
        while self._waiting:
            self._hand_over(self._waiting.popleft())
        self._handed_over.put(None)
        self._thread.join()

    async def _run(self, job: _Job) -> Any:
        if self._closed:
            raise StoreClosed
        if self._current is None:
            if self._start(job):
                return job.result()
        else:
            self._waiting.append(job)
        job.future = asyncio.get_running_loop().create_future()
        return await job.future

    def _start(self, job: _Job) -> bool:
        """Run a job now if that is no burden for the event loop, or hand it to the thread.

        Returns whether it has run.
        """
        if job.brief is not None and self._pace.allows_work:
            started = time.perf_counter()
            job.run_brief()
            self._pace.note_work(time.perf_counter() - started)
        if job.is_done:
            return True
        if job.brief is None and job.is_lone and self._pace.allows_commits:
            self._work(job)
            job.run_settle()
            return True
        self._current = job
        self._hand_over(job)
        return False

    def _hand_over(self, job: _Job) -> None:
        loop = asyncio.get_running_loop()

        def work() -> None:
            self._work(job)
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._end, job)

        self._handed_over.put(work)
        if self._thread is None:
            self._thread = Thread(target=self._run_thread, name=self._name, daemon=True)
            self._thread.start()

    def _run_thread(self) -> None:
        while (work := self._handed_over.get()) is not None:
            work()

    def _work(self, job: _Job) -> None:
        if job.brief is not None:
            job.run_brief()
        if job.is_done:
            return
        started = time.perf_counter()
        job.run_blocking()
        if job.settle is not None:
            self._pace.note_commit(time.perf_counter() - started)

    def _end(self, job: _Job) -> None:
        """Return the result to the caller, and start the next jobs."""
        job.run_settle()
        job.tell()
        self._current = None
        while self._waiting:
            following = self._waiting.popleft()
            if not self._start(following):
                return
            following.tell()


class _Job:
    """Functions that run with nothing between them; each gets the result of the one before it.

    Only the second waits for the disk; the event loop calls the last.
    """

    __slots__ = (
        "blocking",
        "brief",
        "error",
        "future",
        "is_done",
        "is_lone",
        "settle",
        "value",
    )

    def __init__(
        self,
        *,
        brief: Callable[[], Any] | None = None,
        blocking: Callable[[Any], Any] | None = None,
        settle: Callable[[Any], None] | None = None,
        is_lone: bool = False,
    ) -> None:
        self.brief = brief
        self.blocking = blocking
        self.settle = settle
        self.is_lone = is_lone
        self.is_done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.future: asyncio.Future[Any] | None = None

    def run_brief(self) -> None:
        """Run the first function."""
        assert self.brief is not None
        work, self.brief = self.brief, None
        self._run(work)
        self.is_done = self.error is not None or self.blocking is None

    def run_blocking(self) -> None:
        """Run the second function."""
        assert self.blocking is not None
        blocking, before = self.blocking, self.value
        self._run(lambda: blocking(before))
        self.is_done = True

    def run_settle(self) -> None:
        """Call the last function, unless one before it failed."""
        if self.settle is None or self.error is not None:
            return
        try:
            self.settle(self.value)
        except BaseException as exc:  # raised to the caller
            self.error = exc

    def result(self) -> Any:
        """Return the result, or raise the error."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.value

    def tell(self) -> None:
        """Pass the result to the caller, unless the caller was cancelled."""
        if self.future is None or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self.value = work()
        except StopIteration as exc:  # a future refuses it
            self.error = RuntimeError("a function of the store raised StopIteration")
            self.error.__cause__ = exc
        except BaseException as exc:  # raised to the caller, wherever this runs
            self.error = exc
