"""``Problem``: why a request is refused, in any dialect; and the one table of errors' statuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from poussetaches.core.errors import (
    AttemptOver,
    BodyTooLarge,
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
    TaskFailed,
    TaskNotFound,
    TooMany,
    TooManyAttempts,
)

RETRY_AFTER = 1  # seconds; the store is tried again that often


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field of a request."""

    field: str
    reason: str


class Problem(Exception):
    """A refusal, as a value. Checks return it and handlers raise it; a dialect renders it."""

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
    """How an error of ours is answered."""

    status: HTTPStatus
    code: str


# The first class that an error is an instance of decides.
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
    (TaskFailed, Kind(HTTPStatus.CONFLICT, "task-failed")),
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
    """Return how an error is answered; an unexpected one reveals nothing."""
    if isinstance(exc, Problem):
        return exc
    if not isinstance(exc, PousseTachesError):
        detail = "an internal error; the server's log has the details"
        return Problem(_UNEXPECTED.status, _UNEXPECTED.code, detail)
    status, code = next((kind for error, kind in KINDS if isinstance(exc, error)), _UNEXPECTED)
    errors = (FieldError(exc.field, exc.reason),) if isinstance(exc, Invalid) else ()
    waits = status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE)
    # Many clients retry by themselves when they get a Retry-After, and would push twice.
    may_retry = waits and not isinstance(exc, OutcomeUnknown)
    return Problem(status, code, str(exc), errors=errors, headers=_RETRY if may_retry else ())


def unavailable(code: str, detail: str) -> Problem:
    """Return a 503 that tells the client to retry."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers=_RETRY)


@contextmanager
def after_change(what: str = "the change was made", *, made: bool = True) -> Iterator[None]:
    """Guard the rest of a request whose change is already committed.

    If ``made`` is false, nothing was changed yet, and an error of the store is not translated.

    Raises:
        OutcomeUnknown: the store failed; the client must not assume that nothing was changed.
    """
    try:
        yield
    except StoreUnavailable as exc:
        if not made:
            raise
        raise OutcomeUnknown(f"{what}, and then the store failed: {exc}") from exc
