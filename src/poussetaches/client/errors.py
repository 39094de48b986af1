"""What a client raises; everything is a ``ClientError``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from poussetaches.core.errors import PousseTachesError

if TYPE_CHECKING:
    from poussetaches.client.results import NewTask, PushedTask


class ClientError(PousseTachesError):
    """The server was not reached, or did not do what it was asked for."""


class NoAnswer(ClientError):
    """No answer came from the server; whether it did what it was asked for is not known."""


class NotUnderstood(ClientError):
    """The answer is not from a poussetaches server; check its URL."""

    def __init__(self, message: str | None = None, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class FieldError(NamedTuple):
    """A field that was refused, and why."""

    field: str
    reason: str


class Refused(ClientError):
    """The server answered with a problem.

    ``code`` is what ``type`` of the problem ends in, and does not change between versions; it is
    empty if the answer is a proxy's, with a status that may pass. ``retry_after`` is in seconds.
    """

    def __init__(
        self,
        status: int,
        *,
        code: str = "",
        title: str = "",
        detail: str = "",
        errors: Sequence[FieldError] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {code or title}: {detail}" if detail else f"{status} {title}")
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after


class Unauthorized(Refused):
    """A token is needed, or this one is wrong (401), or may only look (403)."""


class NotFound(Refused):
    """There is nothing of this name (404)."""


class Conflict(Refused):
    """What there is stands in the way (409)."""


class InvalidRequest(Refused):
    """A field has a value that is not allowed (422; 403 for a target); ``errors`` names it."""


class Busy(Refused):
    """The server cannot do it at the moment (503)."""


class OutcomeUnknown(Busy):
    """The server failed during the change, which may or may not have been made (503)."""


class Full(Refused):
    """The server's disk is full (507)."""


class PushFailed(ClientError):
    """Tasks were probably not pushed; the cause (``__cause__``) says why.

    It is ``NoAnswer``, a ``Refused`` whose status may pass, or ``NotUnderstood``.

    ``tasks`` may be pushed again as they are: none is made twice within ten minutes, or the
    ``key_ttl`` of its own ``key``. ``pushed`` are those of the same call that were.
    """

    def __init__(
        self, tasks: Sequence[NewTask], cause: ClientError, pushed: Sequence[PushedTask] = ()
    ) -> None:
        what = "the task was" if len(tasks) == 1 else f"{len(tasks)} tasks were"
        others = f" ({len(pushed)} were)" if pushed else ""
        super().__init__(f"{what} not pushed{others}: {cause}")
        self.tasks = tuple(tasks)
        self.pushed = tuple(pushed)

    @property
    def task(self) -> NewTask:
        """The first task that was not pushed."""
        return self.tasks[0]


BY_CODE: dict[str, type[Refused]] = {
    "outcome-unknown": OutcomeUnknown,
    "target-not-allowed": InvalidRequest,
}
BY_STATUS: dict[int, type[Refused]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    422: InvalidRequest,
    503: Busy,
    507: Full,
}
