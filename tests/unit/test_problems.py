"""Errors of ours as problem documents: the one table of their statuses."""

from __future__ import annotations

import json

import pytest

from poussetaches.api.dialect import problem_document
from poussetaches.api.problems import problem_of
from poussetaches.core import errors
from poussetaches.core.errors import (
    AddressTaken,
    AttemptOver,
    BodyTooLarge,
    CannotListen,
    CannotOpenStore,
    CannotReadExport,
    CannotWriteFile,
    Conflict,
    DefectiveTask,
    EditFailed,
    Invalid,
    InvalidFilter,
    InvalidQueue,
    InvalidSchedule,
    InvalidTask,
    KeyConflict,
    NotFound,
    OlderVersion,
    OutcomeUnknown,
    OwnedByAnother,
    PousseTachesError,
    QueueInUse,
    QueueNotFound,
    ScheduleNotFound,
    SettingsError,
    StateConflict,
    StoreBusy,
    StoreClosed,
    StoreFull,
    StoreUnavailable,
    TargetNotAllowed,
    TaskNotFound,
    TooFewDescriptors,
    TooMany,
    TooManyAttempts,
)

ANSWERS = [
    (InvalidTask("url", "has no host"), 422, "invalid-task"),
    (InvalidQueue("rate", "is too high"), 422, "invalid-queue"),
    (InvalidFilter("state", "is none"), 422, "invalid-filter"),
    (InvalidSchedule("cron", "is not a schedule"), 422, "invalid-schedule"),
    (TargetNotAllowed("url", "leads elsewhere"), 403, "target-not-allowed"),
    (BodyTooLarge("text", "is too long"), 413, "too-large"),
    (TaskNotFound(), 404, "task-not-found"),
    (QueueNotFound(), 404, "queue-not-found"),
    (ScheduleNotFound(), 404, "schedule-not-found"),
    (StateConflict("dead", "waiting"), 409, "wrong-state"),
    (DefectiveTask("it is dead now"), 409, "task-failed"),
    (EditFailed(), 500, "unexpected"),
    (KeyConflict("key"), 409, "key-conflict"),
    (QueueInUse(), 409, "queue-in-use"),
    (OwnedByAnother(), 409, "owned-by-another"),
    (OlderVersion(), 409, "older-version"),
    (TooMany(), 409, "too-many"),
    (AttemptOver(), 409, "attempt-over"),
    (TooManyAttempts(), 409, "too-many-attempts"),
    (StoreFull(), 507, "store-full"),
    (StoreUnavailable("the disk is gone"), 503, "store-unavailable"),
    (StoreClosed(), 503, "store-unavailable"),
    (StoreBusy(), 503, "busy"),
    (OutcomeUnknown(), 503, "outcome-unknown"),
]
# They end the start or a command, or are the parents of others and never raised.
NEVER_ANSWERED = {
    *(PousseTachesError, Invalid, NotFound, Conflict),
    *(SettingsError, AddressTaken, CannotListen, CannotOpenStore),
    *(CannotWriteFile, CannotReadExport, TooFewDescriptors),
}


@pytest.mark.parametrize(("error", "status", "code"), ANSWERS, ids=lambda value: str(value)[:20])
def test_error_has_its_status_its_code_and_when_to_come_again(
    error: PousseTachesError, status: int, code: str
) -> None:
    response = problem_document(problem_of(error))

    document = json.loads(bytes(response.body))
    assert response.status_code == document["status"] == status
    assert document["type"] == f"urn:poussetaches:problem:{code}"
    assert document["detail"]
    # Many clients repeat by themselves what has it.
    is_undone = status in (503, 507) and code != "outcome-unknown"
    assert ("retry-after" in response.headers) is is_undone


def test_every_error_of_ours_has_an_answer() -> None:
    every = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, PousseTachesError)
    }

    assert {type(error) for error, _, _ in ANSWERS} | NEVER_ANSWERED == every


@pytest.mark.parametrize(
    "error",
    [error for error, _, _ in ANSWERS if isinstance(error, Invalid)],
    ids=lambda error: type(error).__name__,
)
def test_error_of_a_field_names_it(error: Invalid) -> None:
    document = json.loads(bytes(problem_document(problem_of(error)).body))

    assert document["errors"] == [{"field": error.field, "reason": error.reason}]


def test_unexpected_error_reveals_nothing() -> None:
    problem = problem_of(ValueError("the key is hunter2"))

    assert (problem.status, problem.code) == (500, "unexpected")
    assert "hunter2" not in problem.detail
