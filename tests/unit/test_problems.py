"""Errors of ours as problem documents: the one table of their statuses."""

from __future__ import annotations

import json

import pytest
from starlette.requests import Request

from poussetaches.api.problems import answer_problem, problem_of
from poussetaches.core.errors import (
    InvalidSchedule,
    InvalidTask,
    PousseTachesError,
    StoreFull,
    StoreUnavailable,
)


@pytest.mark.parametrize(
    ("error", "status", "code", "waits"),
    [
        (InvalidTask("url", "has no host"), 422, "invalid-task", False),
        (InvalidSchedule("'x' is not a schedule"), 422, "invalid-schedule", False),
        (StoreFull(), 507, "store-full", True),
        (StoreUnavailable("the disk is gone"), 503, "store-unavailable", True),
    ],
    ids=["task", "schedule", "full", "unavailable"],
)
def test_error_has_its_status_its_code_and_when_to_come_again(
    error: PousseTachesError, status: int, code: str, waits: bool
) -> None:
    response = problem_of(error).response()

    document = json.loads(bytes(response.body))
    assert response.status_code == document["status"] == status
    assert document["type"] == f"urn:poussetaches:problem:{code}"
    assert document["detail"]
    assert ("retry-after" in response.headers) is waits


@pytest.mark.parametrize(
    ("error", "field"),
    [(InvalidTask("url", "has no host"), "url"), (InvalidSchedule("unreadable"), "schedule")],
    ids=["task", "schedule"],
)
def test_error_of_a_field_names_it(error: PousseTachesError, field: str) -> None:
    document = json.loads(bytes(problem_of(error).response().body))

    assert [found["field"] for found in document["errors"]] == [field]


async def test_error_that_nobody_thought_of_tells_nothing_of_itself() -> None:
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})

    response = await answer_problem(request, ValueError("the key is hunter2"))

    assert response.status_code == 500
    assert b"hunter2" not in bytes(response.body)
