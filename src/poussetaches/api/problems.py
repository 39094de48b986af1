"""Errors as problem documents (RFC 9457), and the one table of their statuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

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
TEST_MODE = "/v1/test/"


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field of a request."""

    field: str
    reason: str


class Problem(Exception):
    """An answer that says what went wrong."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def response(self) -> Response:
        """Return the problem document."""
        document: dict[str, object] = {
            "type": f"urn:poussetaches:problem:{self.code}",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [msgspec.to_builtins(error) for error in self.errors]
        return Response(
            msgspec.json.encode(document),
            int(self.status),
            headers=self.headers,
            media_type="application/problem+json",
        )


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


def problem_of(exc: PousseTachesError) -> Problem:
    """Return how an error of ours is answered."""
    status, code = next((kind for error, kind in KINDS if isinstance(exc, error)), _UNEXPECTED)
    errors = (FieldError(exc.field, exc.reason),) if isinstance(exc, Invalid) else ()
    waits = status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE)
    # Many clients retry by themselves when they get a Retry-After, and would push twice.
    may_retry = waits and not isinstance(exc, OutcomeUnknown)
    headers = {"Retry-After": str(RETRY_AFTER)} if may_retry else {}
    return Problem(status, code, str(exc), errors=errors, headers=headers)


def unavailable(code: str, detail: str) -> Problem:
    """Return a 503 that tells the client to retry."""
    headers = {"Retry-After": str(RETRY_AFTER)}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers=headers)


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


_UNEXPECTED = Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected")


async def answer_problem(request: Request, exc: Exception) -> Response:
    """Answer an error with its problem document."""
    if isinstance(exc, Problem):
        return exc.response()
    if isinstance(exc, PousseTachesError):
        return problem_of(exc).response()
    if isinstance(exc, HTTPException):
        return _of_routing(request, exc).response()
    detail = "poussetaches failed to answer; its log says why"
    return Problem(_UNEXPECTED.status, _UNEXPECTED.code, detail).response()


def _of_routing(request: Request, exc: HTTPException) -> Problem:
    status = HTTPStatus(exc.status_code)
    headers = dict(exc.headers or {})
    if status is HTTPStatus.NOT_FOUND:
        return Problem(status, "not-found", _nothing_at(request.url.path))
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _allowed(request)
        detail = f"{request.method} is not allowed here; allowed: {allowed}"
        return Problem(status, "method-not-allowed", detail, headers={"Allow": allowed})
    return Problem(status, "refused", exc.detail, headers=headers)


def _nothing_at(path: str) -> str:
    detail = f"there is nothing at {path}"
    if path.startswith(TEST_MODE):
        return f"{detail}; what is below {TEST_MODE} is served with --test-mode only"
    return detail


def _allowed(request: Request) -> str:
    """Return the methods of all routes at a path: Starlette names those of the first alone."""
    methods: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return ", ".join(sorted(methods))
