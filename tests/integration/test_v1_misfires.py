"""misfire and overlap: runs that schedules make up for, and runs that they skip."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.integration.asgi import request
from tests.integration.service import Service

TASK = {"url": "http://app.test/run"}
HOUR = 3600


@pytest.fixture
async def service(
    tmp_path: Path, clock: FakeClock, sender: ScriptedSender
) -> AsyncIterator[Service]:
    path = tmp_path / "tasks.sqlite3"
    service = await Service.opened(path, clock=clock, sender=sender, random=seeded())
    yield service
    await service.close()


async def put(service: Service, cron: str, **fields: object) -> None:
    body = {"cron": cron, "task": TASK, "overlap": "allow", **fields}
    assert (await request(service.app, "PUT", "/v1/schedules/s", body)).status == 201


async def runs(service: Service) -> list[Any]:
    answer = await request(service.app, "GET", "/v1/schedules/s/runs?limit=1000")
    found: list[Any] = answer.json["tasks"]
    return found


async def next_run(service: Service) -> datetime:
    shown = (await request(service.app, "GET", "/v1/schedules/s")).json
    return datetime.fromisoformat(shown["next_runs"][0]["utc"])


@pytest.mark.parametrize(
    ("fields", "hours", "count"),
    [
        ({}, 10, 1),
        ({"misfire": "once"}, 10, 1),
        ({"misfire": "skip"}, 10, 0),
        ({"misfire": "all"}, 10, 10),
        ({"misfire": "all"}, 50, 24),
        ({"misfire": "all", "misfire_grace": 1_000_000}, 150, 100),
    ],
    ids=str,
)
async def test_missed_runs_are_handled_by_the_misfire_policy(
    service: Service, clock: FakeClock, fields: dict[str, object], hours: int, count: int
) -> None:
    await put(service, "@every 1h", **fields)
    first = await next_run(service)

    clock.jump(hours * HOUR + 0.75 * HOUR)
    await service.advance(0)
    made_up = len(await runs(service))
    await service.advance(0.25 * HOUR)

    assert made_up == count
    assert len(await runs(service)) == count + 1
    assert await next_run(service) == first + timedelta(hours=hours + 1)


@pytest.mark.parametrize(("late", "count"), [(600, 1), (601, 0)])
async def test_run_is_not_made_up_for_once_its_grace_is_over(
    service: Service, clock: FakeClock, late: int, count: int
) -> None:
    await put(service, "@every 1h", misfire_grace=600)

    clock.jump(HOUR + late)
    await service.advance(0)

    assert len(await runs(service)) == count


async def test_grace_is_at_most_a_day_by_default(service: Service, clock: FakeClock) -> None:
    await put(service, "@every 48h")

    clock.jump(72 * HOUR)
    await service.advance(0)
    made_up = len(await runs(service))
    clock.jump(49 * HOUR)  # the next but one is due since 25 hours
    await service.advance(0)

    assert (made_up, len(await runs(service))) == (1, 1)


async def test_every_counts_from_its_creation(service: Service, clock: FakeClock) -> None:
    await put(service, "@every 1h")
    first = await next_run(service)

    clock.jump(1.5 * HOUR)
    await service.advance(0)

    assert await next_run(service) == first + timedelta(hours=1)


async def test_runs_that_may_overlap_are_a_hundred_at_most(service: Service) -> None:
    await put(service, "@every 60s")
    await request(service.app, "POST", "/v1/pause")

    await service.advance(110 * 60)

    assert len(await runs(service)) == 100


async def test_run_without_its_first_attempt_keeps_out_the_next(service: Service) -> None:
    await put(service, "@every 60s", overlap="skip")
    await request(service.app, "POST", "/v1/pause")

    await service.advance(10 * 60)
    waiting = [task["state"] for task in await runs(service)]
    await request(service.app, "POST", "/v1/resume")
    await service.advance(60)

    assert waiting == ["waiting"]
    assert [task["state"] for task in await runs(service)] == ["succeeded"] * 2


async def test_run_that_waits_for_a_retry_gives_way_to_the_next(
    service: Service, sender: ScriptedSender
) -> None:
    sender.always(500)
    await put(service, "@every 60s", overlap="skip")

    await service.advance(3 * 60)

    ends = [(task["state"], task["reason"]) for task in await runs(service)]
    assert ends == [("waiting", None), ("dead", "superseded"), ("dead", "superseded")]
