"""A time limit that a process which stood still does not take for the other side's silence."""

from __future__ import annotations

import asyncio
from types import TracebackType

LATE = 0.5  # seconds; timers that come later than this show that the process stood still
GRACE = 2.0  # seconds in which what arrived meanwhile is read


class Deadline:
    """Breaks off what is awaited within it after some seconds, with ``TimeoutError``.

    A process that was stopped, or suspended with its machine, has read nothing for that time:
    when it goes on, an answer may lie in the socket although the limit has passed. Otherwise it
    is ``asyncio.timeout``, with less to do for each attempt.
    """

    __slots__ = ("_at", "_cancelling", "_has_passed", "_loop", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._has_passed = False
        self._loop = asyncio.get_running_loop()
        self._at = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._at, self._look)

    def __enter__(self) -> None:
        """Begin; the time has run since it was made."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if not self._has_passed or self._task.uncancel() > self._cancelling:
            return  # in the second case somebody else has cancelled it as well
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def _look(self) -> None:
        now = self._loop.time()
        if now - self._at > LATE:
            self._timer = self._loop.call_at(now + GRACE, self._pass)
        else:
            self._pass()

    def _pass(self) -> None:
        self._has_passed = True
        self._task.cancel()
