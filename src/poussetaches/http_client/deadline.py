"""Time limits that allow for a process that was suspended.

A process that was stopped, or suspended with its machine, has read nothing meanwhile: when it
resumes, an answer may be in the socket's buffer although the limit has passed. It gets ``GRACE``
to read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

LATE = 0.5  # seconds; a timer that fires later than this shows that the process was suspended
GRACE = 2.0  # seconds for reading what arrived meanwhile


class DeadlineTimer:
    """Calls a function at a moment of the event loop's time, unless it is cancelled before."""

    __slots__ = ("_at", "_callback", "_handle", "_loop")

    def __init__(
        self, at: float, callback: Callable[[], None], *, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._at = at
        self._callback = callback
        self._loop = loop
        self._handle = loop.call_at(at, self._expire)

    def cancel(self) -> None:
        """Do not call the function."""
        self._handle.cancel()

    def _expire(self) -> None:
        now = self._loop.time()
        if now - self._at > LATE:
            self._handle = self._loop.call_at(now + GRACE, self._callback)
        else:
            self._callback()


class Deadline:
    """Cancels the code within it at a moment of the event loop's time; raises ``TimeoutError``.

    It works like ``asyncio.timeout_at``, at less cost.
    """

    __slots__ = ("_cancelling", "_has_passed", "_task", "_timer")

    def __init__(self, at: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._has_passed = False
        self._timer = DeadlineTimer(at, self._pass, loop=asyncio.get_running_loop())

    def __enter__(self) -> None:
        """Enter the block."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if not self._has_passed or self._task.uncancel() > self._cancelling:
            return  # in the second case the task was cancelled from elsewhere, too
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def _pass(self) -> None:
        self._has_passed = True
        self._task.cancel()
