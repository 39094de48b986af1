"""The time for which a client retries a request, and the pauses between its tries."""

from __future__ import annotations

from collections.abc import Callable

from poussetaches.client.errors import ClientError, NoAnswer, Refused

MIN_PAUSE = 0.05  # seconds; doubles each time
MAX_PAUSE = 0.5  # seconds
SHORT = 1.0  # seconds; a shorter rest is used for a single try

TOO_MANY_REQUESTS = 429  # of a proxy
SERVER_ERROR = 500


class RetryTimer:
    """Limits the tries of a request to a number of seconds."""

    def __init__(self, seconds: float, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._ends_at = monotonic() + seconds
        self._pause = MIN_PAUSE

    @property
    def left(self) -> float:
        """The remaining seconds, at least 0."""
        return max(0.0, self._ends_at - self._monotonic())

    @property
    def timeout(self) -> float:
        """Timeout of the next try: half of the remaining time, so that another try is possible."""
        left = self.left
        return left if left <= SHORT else left / 2

    def pause_after(self, error: ClientError) -> float:
        """Return the seconds to wait before the next try.

        Raises:
            ClientError: the given error, if it is permanent or no time remains.
        """
        pause, self._pause = self._pause, min(2 * self._pause, MAX_PAUSE)
        if not is_temporary(error) or pause >= self.left:
            raise error
        return pause


def is_temporary(error: ClientError) -> bool:
    """Return whether a retry of the request may succeed."""
    if isinstance(error, Refused):
        return is_temporary_status(error.status)
    return isinstance(error, NoAnswer)


def is_temporary_status(status: int) -> bool:
    """Return whether a status does not depend on the request itself."""
    return status >= SERVER_ERROR or status == TOO_MANY_REQUESTS
