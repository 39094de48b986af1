"""What a handler raises to say how its task goes on."""

from __future__ import annotations

from poussetaches.client.durations import Seconds, in_seconds
from poussetaches.core.errors import PousseTachesError


class RetryLater(PousseTachesError):
    """The task cannot be done yet.

    Raised by a handler, it ends the attempt, which counts; the next one comes after at least
    ``after`` seconds, at most the policy's ``max_retry_after``.
    """

    def __init__(self, reason: str = "retry later", *, after: Seconds) -> None:
        seconds = in_seconds(after)
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"after is {after}; give a number of seconds, from 0 on")
        super().__init__(reason)
        self.after = seconds


class GiveUp(PousseTachesError):
    """The task can never be done.

    Raised by a handler, it makes the task a dead letter at once, whatever attempts are left.
    """

    def __init__(self, reason: str = "given up") -> None:
        super().__init__(reason)
