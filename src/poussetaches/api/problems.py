"""``Problem``: why a request is refused, in any dialect; and the status of each error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from poussetaches.core.errors import (
    AttemptOver,
    BodyTooLarge,
    DefectiveTask,
    EditFailed,
    Invalid,
    InvalidFilter,
    InvalidQueue,
    InvalidSchedule,
    InvalidTask,
    KeyConflict,
    OlderVersion,
    OutcomeUnknown,
    OwnedByAnother,
    PousseTachesError,
    QueueInUse,
    QueueNotFound,
    ScheduleNotFound,
    StateConflict,
    StoreBusy,
    StoreFull,
    StoreUnavailable,
    TargetNotAllowed,
    TaskNotFound,
    TooMany,
    TooManyAttempts,
)

RETRY_AFTER = 1  # seconds, the interval at which the store recovers


class FieldError(msgspec.Struct, frozen=True):
    """The error of one field of a request."""

    field: str
    reason: str


class Problem(Exception):
    """The error of a request. Checks return it, handlers raise it, and a dialect renders it."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers


class Kind(NamedTuple):
    """The status and code of the response to an error."""

    status: HTTPStatus
    code: str


# The first matching class applies.
KINDS: tuple[tuple[type[PousseTachesError], Kind], ...] = (
    (BodyTooLarge, Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large")),
    (TargetNotAllowed, Kind(HTTPStatus.FORBIDDEN, "target-not-allowed")),
    (InvalidTask, Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-task")),
    (InvalidQueue, Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-queue")),
    (InvalidFilter, Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-filter")),
    (InvalidSchedule, Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-schedule")),
    (TaskNotFound, Kind(HTTPStatus.NOT_FOUND, "task-not-found")),
    (QueueNotFound, Kind(HTTPStatus.NOT_FOUND, "queue-not-found")),
    (ScheduleNotFound, Kind(HTTPStatus.NOT_FOUND, "schedule-not-found")),
    (StateConflict, Kind(HTTPStatus.CONFLICT, "wrong-state")),
    (EditFailed, Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected")),
    (DefectiveTask, Kind(HTTPStatus.CONFLICT, "task-failed")),
    (KeyConflict, Kind(HTTPStatus.CONFLICT, "key-conflict")),
    (QueueInUse, Kind(HTTPStatus.CONFLICT, "queue-in-use")),
    (OwnedByAnother, Kind(HTTPStatus.CONFLICT, "owned-by-another")),
    (OlderVersion, Kind(HTTPStatus.CONFLICT, "older-version")),
    (TooMany, Kind(HTTPStatus.CONFLICT, "too-many")),
    (AttemptOver, Kind(HTTPStatus.CONFLICT, "attempt-over")),
    (TooManyAttempts, Kind(HTTPStatus.CONFLICT, "too-many-attempts")),
    (StoreFull, Kind(HTTPStatus.INSUFFICIENT_STORAGE, "store-full")),
    (StoreBusy, Kind(HTTPStatus.SERVICE_UNAVAILABLE, "busy")),
    (OutcomeUnknown, Kind(HTTPStatus.SERVICE_UNAVAILABLE, "outcome-unknown")),
    (StoreUnavailable, Kind(HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable")),
)
_UNEXPECTED = Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected")
_RETRY = (("Retry-After", str(RETRY_AFTER)),)


def problem_of(exc: Exception) -> Problem:
    """Return the problem of an error; that of an unexpected one has no details."""
    if isinstance(exc, Problem):
        return exc
    if not isinstance(exc, PousseTachesError):
        detail = "internal error; see the server's log"
        return Problem(_UNEXPECTED.status, _UNEXPECTED.code, detail)
    status, code = next((kind for error, kind in KINDS if isinstance(exc, error)), _UNEXPECTED)
    errors = (FieldError(exc.field, exc.reason),) if isinstance(exc, Invalid) else ()
    is_temporary = status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE)
    # Many clients retry automatically after a Retry-After, and would push twice.
    may_retry = is_temporary and not isinstance(exc, OutcomeUnknown)
    return Problem(status, code, str(exc), errors=errors, headers=_RETRY if may_retry else ())


def unavailable(code: str, detail: str) -> Problem:
    """Return a 503 with ``Retry-After``."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers=_RETRY)


def invalid(code: str, field: str, reason: str) -> Problem:
    """Return the 422 of an invalid field."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        code,
        f"{field}: {reason}" if field else reason,
        errors=(FieldError(field, reason),),
    )


def too_large(detail: str) -> Problem:
    """Return the 413 of a request over a limit."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)


@contextmanager
def after_change(change: str = "the change was made", *, made: bool = True) -> Iterator[None]:
    """Translate errors of the store after the change of a request was committed.

    If ``made`` is false, nothing was changed yet, and errors are not translated.

    Raises:
        OutcomeUnknown: the store failed; the client must not assume that nothing was changed.
    """
    try:
        yield
    except StoreUnavailable as exc:
        if not made:
            raise
        raise OutcomeUnknown(f"{change}, but then the store failed: {exc}") from exc
