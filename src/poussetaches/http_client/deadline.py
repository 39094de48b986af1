"""Time limits that allow for a process that was suspended.

A process that was stopped, or suspended with its machine, has read nothing meanwhile: when it
resumes, an answer may be in the socket's buffer although the limit has passed. It gets ``GRACE``
to read it.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

LATE = 0.5  # seconds; a timer that fires later than this shows that the process was suspended
GRACE = 2.0  # seconds for reading what arrived meanwhile


class Deadline:
    """Cancels the code within it at a moment of the event loop's time; raises ``TimeoutError``.

    It works like ``asyncio.timeout_at``, at less cost.
    """

    __slots__ = ("_at", "_cancelling", "_has_passed", "_loop", "_task", "_timer")

    def __init__(self, at: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._has_passed = False
        self._at = at
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_at(at, self._expire)

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

    def _expire(self) -> None:
        now = self._loop.time()
        if now - self._at > LATE:
            self._timer = self._loop.call_at(now + GRACE, self._pass)
        else:
            self._pass()

    def _pass(self) -> None:
        self._has_passed = True
        self._task.cancel()
