"""Exceptions that a handler raises to retry its task later, or to give up."""

from __future__ import annotations

from datetime import timedelta

from poussetaches.client.durations import Seconds, in_seconds
from poussetaches.core.errors import PousseTachesError


class RetryLater(PousseTachesError):
    """The task cannot be done yet.

    Raised by a handler, it ends the attempt, which counts. The next attempt starts after at
    least ``after`` seconds; ``max_retry_after`` of the retry policy limits the wait.
    """

    def __init__(self, reason: str = "retry later", *, after: Seconds) -> None:
        given: object = after  # for applications without a type checker
        seconds = in_seconds(after) if isinstance(given, int | float | timedelta) else -1
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"after is {after!r}; use a number of seconds, at least 0")
        super().__init__(reason)
        self.after = seconds


class GiveUp(PousseTachesError):
    """The task can never succeed.

    Raised by a handler, it makes the task a dead letter at once, without further attempts.
    """

    def __init__(self, reason: str = "given up") -> None:
        super().__init__(reason)
