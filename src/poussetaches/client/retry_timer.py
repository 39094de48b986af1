"""How long a client retries a call, and how long it waits between attempts."""

from __future__ import annotations

from collections.abc import Callable

from poussetaches.client.errors import ClientError, NoAnswer, Refused

MIN_PAUSE = 0.05  # seconds; each one is twice as long as the one before
MAX_PAUSE = 0.5  # seconds
SHORT = 1.0  # seconds: what is left when it is no longer divided

TOO_MANY_REQUESTS = 429  # of a proxy
SERVER_ERROR = 500


class RetryTimer:
    """Tries within a number of seconds; ``monotonic`` is a clock."""

    def __init__(self, seconds: float, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._ends_at = monotonic() + seconds
        self._pause = MIN_PAUSE

    @property
    def left(self) -> float:
        """Seconds that are left, 0 at the least."""
        return max(0.0, self._ends_at - self._monotonic())

    @property
    def timeout(self) -> float:
        """Seconds for the next try: half of what is left, so that a lost one is not the only."""
        left = self.left
        return left if left <= SHORT else left / 2

    def pause_after(self, error: ClientError) -> float:
        """Return the seconds to wait before the next try.

        Raises:
            ClientError: this error, when there is no use in another try, or no time.
        """
        pause, self._pause = self._pause, min(2 * self._pause, MAX_PAUSE)
        if not is_temporary(error) or pause >= self.left:
            raise error
        return pause


def is_temporary(error: ClientError) -> bool:
    """Return whether the same call may succeed when it is repeated."""
    if isinstance(error, Refused):
        return is_temporary_status(error.status)
    return isinstance(error, NoAnswer)


def is_temporary_status(status: int) -> bool:
    """Return whether a status says nothing about the request itself."""
    return status >= SERVER_ERROR or status == TOO_MANY_REQUESTS
