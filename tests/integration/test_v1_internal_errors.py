"""Responses of the API when a task cannot be processed, and the counts of such errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from poussetaches.store.runner import InlineRunner
from poussetaches.store.sqlite.transaction import Step
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.integration.asgi import request
from tests.integration.service import Service
from tests.store.faults import Faults

R = TypeVar("R")

TASK = {"url": "http://app.test/run", "delay": 60}


class BreakingRunner(InlineRunner):
    """Runs functions until a test makes it fail."""

    is_broken = False

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Run one piece of work, or fail."""
        if self.is_broken:
            raise ZeroDivisionError
        return await super().run(work)


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def writer() -> BreakingRunner:
    return BreakingRunner()


@pytest.fixture
async def service(
    tmp_path: Path,
    clock: FakeClock,
    sender: ScriptedSender,
    faults: Faults,
    writer: BreakingRunner,
) -> AsyncIterator[Service]:
    path = tmp_path / "tasks.db"
    service = await Service.opened(
        path, clock=clock, sender=sender, random=seeded(), row_fault=faults, writer=writer
    )
    yield service
    await service.close()


async def push(service: Service, **fields: object) -> str:
    answer = await request(service.app, "POST", "/v1/tasks", {**TASK, **fields})
    assert answer.status == 201
    task_id: str = answer.json["id"]
    return task_id


async def health(service: Service) -> tuple[int, int, int]:
    """Return the status of health, the rows set aside, and the internal errors."""
    answer = await request(service.app, "GET", "/healthz")
    counts = answer.json.get("unreadable_rows", 0), answer.json.get("internal_errors", 0)
    return answer.status, *counts


async def test_healthy_server_counts_nothing(service: Service) -> None:
    await push(service)

    assert await health(service) == (200, 0, 0)


async def test_cancelling_a_task_that_fails_ends_it_and_is_a_problem(
    service: Service, faults: Faults
) -> None:
    first, other = await push(service), await push(service)
    faults.fail(Step.EDIT, keys=(1, first), error=KeyError())

    answer = await request(service.app, "POST", f"/v1/tasks/{first}/cancel")

    assert answer.status == 409
    assert answer.json["type"] == "urn:poussetaches:problem:task-failed"
    assert "it was buried" in answer.json["detail"]
    task = (await request(service.app, "GET", f"/v1/tasks/{first}")).json
    assert (task["state"], task["reason"]) == ("dead", "internal_error")
    assert "internal error while changing the task: KeyError" in task["last_error"]
    assert (await request(service.app, "GET", f"/v1/tasks/{other}")).json["state"] == "waiting"
    assert await health(service) == (200, 0, 1)
    assert (await request(service.app, "GET", "/readyz")).status == 200
    listed = await request(service.app, "GET", "/v1/tasks?reason=internal_error")
    assert [task["id"] for task in listed.json["tasks"]] == [first]


async def test_bulk_cancel_passes_over_a_task_that_fails(service: Service, faults: Faults) -> None:
    ids = [await push(service) for _ in range(5)]
    faults.fail(Step.EDIT, keys=(3, ids[2]), error=KeyError())

    answer = await request(service.app, "POST", "/v1/tasks/cancel", {"all": True})

    assert answer.status == 200
    assert answer.json == {"count": 4, "skipped": [{"reason": "failed", "count": 1}]}
    assert await health(service) == (200, 0, 1)


async def test_row_that_is_set_aside_is_counted(service: Service, faults: Faults) -> None:
    first = await push(service)
    faults.fail(Step.EDIT, Step.BURY_FAILED, keys=(1, first), error=KeyError())

    answer = await request(service.app, "POST", f"/v1/tasks/{first}/cancel")

    assert (answer.status, await health(service)) == (409, (200, 1, 1))
    assert "it was set aside" in answer.json["detail"]
    assert (await request(service.app, "GET", "/readyz")).status == 503
    assert (await request(service.app, "GET", f"/v1/tasks/{first}")).status == 404


async def test_delivery_goes_on_round_a_task_whose_outcome_fails(
    service: Service, faults: Faults, sender: ScriptedSender
) -> None:
    ids = [await push(service, delay=0) for _ in range(3)]
    faults.fail(Step.RECORD, keys=(2, ids[1]), error=KeyError())

    await service.advance(1)

    tasks = [(await request(service.app, "GET", f"/v1/tasks/{id}")).json for id in ids]
    assert [task["reason"] or task["state"] for task in tasks] == [
        "succeeded",
        "internal_error",
        "succeeded",
    ]
    assert sorted(sender.task_ids) == sorted(ids)
    assert await health(service) == (200, 0, 1)


async def test_sender_that_breaks_down_is_counted(
    service: Service, sender: ScriptedSender
) -> None:
    sender.replies(ZeroDivisionError())
    await push(service, delay=0)

    await service.advance(30)

    assert await health(service) == (200, 0, 1)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(("POST", "/v1/tasks", TASK), id="push"),
        pytest.param(("PUT", "/v1/queues/mail", {"rate": 1}), id="other"),
    ],
)
async def test_request_that_fails_is_counted_and_logged(
    service: Service,
    writer: BreakingRunner,
    caplog: pytest.LogCaptureFixture,
    asked: tuple[str, str, dict[str, object]],
) -> None:
    method, path, body = asked
    writer.is_broken = True
    failed = await request(service.app, method, path, body)
    writer.is_broken = False

    refused = await request(service.app, method, path, {"none": 1})

    assert (failed.status, refused.status) == (500, 422)
    assert await health(service) == (200, 0, 1)
    assert "request failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
