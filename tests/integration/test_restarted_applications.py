"""An application that is restarted costs its tasks no attempt; a task that restarts it dies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from poussetaches.core.cause import Cause
from tests.factories import make_outcome
from tests.fakes import FakeClock, ScriptedSender
from tests.integration.asgi import request
from tests.integration.service import Service, running

URL = "http://app.test/run"
HOUR = 3600
RESTARTED = make_outcome(error="the connection was closed", cause=Cause.RESTARTED)


@pytest.fixture
async def service(
    tmp_path: Path, clock: FakeClock, sender: ScriptedSender
) -> AsyncIterator[Service]:
    async with running(tmp_path / "tasks.sqlite3", clock, sender) as service:
        yield service


async def pushed(service: Service, *, max_attempts: int) -> str:
    body = {"url": URL, "retry": {"max_attempts": max_attempts}}
    id: str = (await request(service.app, "POST", "/v1/tasks", body)).json["id"]
    return id


async def task(service: Service, id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await request(service.app, "GET", f"/v1/tasks/{id}")).json
    return found


@pytest.mark.parametrize("restarts", [1, 2])
async def test_restarts_cost_no_attempt(
    service: Service, sender: ScriptedSender, restarts: int
) -> None:
    sender.replies(*[RESTARTED] * restarts, 200)
    id = await pushed(service, max_attempts=1)

    await service.advance(HOUR)

    found = await task(service, id)
    assert (found["state"], found["attempt_count"]) == ("succeeded", 1)
    assert sender.attempts_of(id) == [1] * (restarts + 1)


async def test_restart_holds_the_origin(service: Service, sender: ScriptedSender) -> None:
    sender.replies(RESTARTED)
    id = await pushed(service, max_attempts=1)

    await service.advance(0)

    found = await task(service, id)
    assert [each["reason"] for each in found["waiting_for"]] == ["origin_held"]
    assert found["last_error"] == "the connection was closed"


async def test_task_that_restarts_its_application_each_time_dies(
    service: Service, sender: ScriptedSender
) -> None:
    sender.always(RESTARTED)
    id = await pushed(service, max_attempts=2)

    await service.advance(HOUR)

    found = await task(service, id)
    assert (found["state"], found["reason"]) == ("dead", "exhausted")
    assert [attempt["cause"] for attempt in found["attempts"]] == ["restarted"] * 2
    assert sender.attempts_of(id) == [1, 1, 1, 2, 2, 2]
