"""Exceptions of the clients; all of them derive from ``ClientError``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from poussetaches.core.errors import PousseTachesError

if TYPE_CHECKING:
    from poussetaches.client.request_fields import NewTask
    from poussetaches.client.results import PushedTask


class ClientError(PousseTachesError):
    """The request to the server failed."""


class NoAnswer(ClientError):
    """The server did not respond; the request may or may not have been carried out."""

    def __init__(self, reason: str | None = None, *, advice: str = "") -> None:
        super().__init__(f"{reason}; {advice}" if advice else reason)
        self.reason = reason or str(self)


class NotUnderstood(ClientError):
    """The answer is not from a poussetaches server; check its URL."""

    def __init__(self, message: str | None = None, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class FieldError(NamedTuple):
    """A refused field, and the reason."""

    field: str
    reason: str


class Refused(ClientError):
    """The server responded with a problem.

    ``code`` is the last part of the problem's ``type``, and is stable across versions. It is empty
    for a temporary error of a proxy. ``retry_after`` is in seconds.
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
    """The token is missing or wrong (401), or does not permit this request (403)."""


class NotFound(Refused):
    """There is no task, queue or schedule with this id or name (404)."""


class Conflict(Refused):
    """Conflicts with the current state (409)."""


class InvalidRequest(Refused):
    """A field has a value that is not allowed (422; 403 for a target); ``errors`` names it."""


class Busy(Refused):
    """The server cannot process the request at the moment (503)."""


class OutcomeUnknown(Busy):
    """The server failed during the change; it may or may not have been made (503)."""


class Full(Refused):
    """The server's disk is full (507)."""


class PushFailed(ClientError):
    """Tasks were not pushed, or their answer was lost; ``__cause__`` is the reason.

    The reason is ``NoAnswer``, ``NotUnderstood``, or a temporary ``Refused``; for tasks of
    ``push_many`` after others were pushed, any ``Refused``.

    ``tasks`` can be pushed again as they are: a second push within ten minutes, or within the
    ``key_ttl`` of a task's own ``key``, creates no second task. ``pushed`` has the tasks of the
    same call that were pushed.
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
