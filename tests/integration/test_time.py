"""Deliveries continue if the wall clock jumps by hours or years.

The wall clock says when something is due; how long something takes is measured by the other one,
which no jump touches.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from poussetaches.core.moment import Moment
from tests.factories import make_outcome
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.integration.asgi import request
from tests.integration.service import Service, running

URL = "http://app.test/run"
ORIGIN = "http://app.test:80"
HOUR = 3600
DAY = 24 * HOUR
YEAR = 365 * DAY
JUMPS = [
    pytest.param(HOUR, id="an hour ahead"),
    pytest.param(-HOUR, id="an hour back"),
    pytest.param(YEAR, id="a year ahead"),
    pytest.param(-YEAR, id="a year back"),
]


@pytest.fixture
async def service(
    tmp_path: Path, clock: FakeClock, sender: ScriptedSender
) -> AsyncIterator[Service]:
    async with running(tmp_path / "tasks.sqlite3", clock, sender) as service:
        yield service


async def push(service: Service, **fields: object) -> str:
    answer = await request(service.app, "POST", "/v1/tasks", {"url": URL, **fields})
    assert answer.status == 201
    id: str = answer.json["id"]
    return id


async def task(service: Service, id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await request(service.app, "GET", f"/v1/tasks/{id}")).json
    return found


async def put_schedule(service: Service, cron: str, **fields: object) -> None:
    body = {"cron": cron, "task": {"url": URL}, "overlap": "allow", **fields}
    assert (await request(service.app, "PUT", "/v1/schedules/s", body)).status == 201


async def pass_by_hours(service: Service, hours: int) -> None:
    for _ in range(hours):
        await service.advance(HOUR)


@pytest.mark.parametrize("jump", JUMPS)
async def test_running_delay_is_shortened_or_lengthened_by_the_jump(
    service: Service, clock: FakeClock, sender: ScriptedSender, jump: int
) -> None:
    id = await push(service, delay=2 * HOUR)
    await service.advance(HOUR)

    clock.jump(jump)
    left = max(0, HOUR - jump)
    await service.advance(left - 0.001)
    before = len(sender.requests)
    await service.advance(0.001)

    assert (before, sender.attempts_of(id)) == (0 if left else 1, [1])


@pytest.mark.parametrize("jump", JUMPS)
async def test_backoff_is_shortened_or_lengthened_by_the_jump(
    service: Service, clock: FakeClock, sender: ScriptedSender, jump: int
) -> None:
    sender.replies(503)
    retry = {"min_backoff": 2 * HOUR, "max_backoff": 2 * HOUR, "jitter": 0}
    id = await push(service, retry=retry)
    await service.advance(HOUR)

    clock.jump(jump)
    left = max(0, HOUR - jump)
    await service.advance(left - 0.001)
    before = sender.attempts_of(id)
    await service.advance(YEAR)

    assert before == ([1] if left else [1, 2])
    assert sender.attempts_of(id) == [1, 2]


@pytest.mark.parametrize("jump", JUMPS)
async def test_jump_and_back_again_leaves_nothing_behind(
    service: Service, clock: FakeClock, sender: ScriptedSender, jump: int
) -> None:
    """As when a wrong time server is corrected."""
    ids = [await push(service, delay=delay) for delay in (1, HOUR, 3 * HOUR, 2 * DAY)]
    await service.advance(HOUR / 2)

    clock.jump(jump)
    await service.advance(60)
    clock.jump(-jump)
    await service.advance(3 * DAY)

    assert Counter(sender.task_ids) == Counter(ids)


@pytest.mark.parametrize("jump", JUMPS)
async def test_due_tasks_wait_no_longer_than_until_the_clock_is_looked_at(
    service: Service, clock: FakeClock, sender: ScriptedSender, jump: int
) -> None:
    """Tasks pushed after the jump do not wait for tasks pushed before it."""
    await push(service, delay=2 * HOUR)
    clock.jump(jump)

    id = await push(service)
    await service.advance(0)

    assert sender.attempts_of(id) == [1]


async def test_task_that_a_jump_made_too_late_expires_unsent(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    end = datetime.fromtimestamp(clock.now() / 1e6, UTC) + timedelta(hours=3)
    id = await push(service, delay=2 * HOUR, expires_at=end.isoformat())

    clock.jump(YEAR)
    await service.advance(HOUR + 60)

    found = await task(service, id)
    assert (found["state"], found["reason"], sender.requests) == ("dead", "expired", [])


# Not a year back: by the time that the driver has caught up, the task has been pruned.
@pytest.mark.parametrize("jump", JUMPS[:3])
async def test_attempt_over_which_the_clock_jumps_is_made_once(
    service: Service, clock: FakeClock, sender: ScriptedSender, jump: int
) -> None:
    sender.hangs()
    id = await push(service)
    running = asyncio.create_task(service.advance(0))
    await let_run()

    clock.jump(jump)
    clock.advance(5)
    sender.hangs_no_more()
    await running
    found = await task(service, id)
    await service.advance(YEAR + DAY)

    assert [attempt["duration"] for attempt in found["attempts"]] == [5]
    assert found["state"] == "succeeded"
    assert sender.attempts_of(id) == [1]


@pytest.mark.parametrize("jump", JUMPS)
async def test_jump_gives_a_queue_no_tokens_and_takes_none(
    service: Service, clock: FakeClock, sender: ScriptedSender, jump: int
) -> None:
    settings = {"rate": 0.1, "burst": 1}
    assert (await request(service.app, "PUT", "/v1/queues/slow", settings)).status == 201
    clock.jump(-2 * YEAR)
    for _ in range(3):
        await push(service, queue="slow")
    clock.jump(2 * YEAR)
    await service.advance(0)

    clock.jump(abs(jump))
    await service.advance(9.9)
    before = len(sender.requests)
    await service.advance(0.1)
    after = len(sender.requests)

    assert (before, after) == (1, 2)


async def test_lane_with_retry_after_waits_independently_of_the_clock(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    sender.replies(make_outcome(429, retry_after=600.0))
    await push(service)
    await service.advance(0)

    clock.jump(YEAR)
    other = await push(service)
    await service.advance(599)
    before = sender.attempts_of(other)
    await service.advance(1)

    assert (before, sender.attempts_of(other)) == ([], [1])


@pytest.mark.parametrize("jump", JUMPS)
async def test_held_origin_is_probed_on_through_the_jump(
    service: Service, clock: FakeClock, sender: ScriptedSender, jump: int
) -> None:
    sender.goes_away(ORIGIN)
    id = await push(service)
    await service.advance(1)

    clock.jump(jump)
    probes = len(sender.probes)
    await service.advance(60)
    after = len(sender.probes)
    sender.comes_back(ORIGIN)
    await service.advance(YEAR + DAY)

    assert 2 <= after - probes <= 6
    assert sender.attempts_of(id)[-1] == 1
    assert (await request(service.app, "GET", f"/v1/tasks/{id}")).status in (200, 404)


@pytest.mark.parametrize(
    ("jump", "most"),
    [
        pytest.param(HOUR, 6, id="an hour ahead"),
        pytest.param(-HOUR, 5, id="an hour back"),
        pytest.param(5 * DAY, 6, id="days ahead"),
        pytest.param(YEAR, 6, id="a year ahead"),
    ],
)
async def test_jump_makes_an_hourly_schedule_neither_run_twice_nor_stop(
    service: Service, clock: FakeClock, sender: ScriptedSender, jump: int, most: int
) -> None:
    await put_schedule(service, "@hourly")
    await pass_by_hours(service, 2)

    clock.jump(jump)
    await pass_by_hours(service, 3)

    # Ahead: one run for all skipped occurrences. Back: none while occurrences repeat.
    skipped = 1 if jump < 0 else 0
    assert 5 - skipped <= len(sender.requests) <= most


async def test_schedule_that_fired_a_year_ahead_restarts(
    service: Service,
    clock: FakeClock,
    sender: ScriptedSender,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await put_schedule(service, "@hourly")
    await pass_by_hours(service, 2)

    clock.jump(-YEAR)
    await pass_by_hours(service, 3)

    assert "schedule restarted after the clock was set back" in caplog.messages
    assert len(sender.requests) == 5


@pytest.mark.parametrize(
    ("day", "cron", "count"),
    [
        # On 29 March 2026 clocks go from 2:00 to 3:00, on 25 October from 3:00 to 2:00.
        pytest.param((2026, 3, 29), "30 2 * * *", 1, id="skipped time"),
        pytest.param((2026, 10, 25), "30 2 * * *", 1, id="time that comes twice"),
        pytest.param((2026, 3, 29), "0 30 2 * * *", 1, id="skipped time, six fields"),
        pytest.param((2026, 10, 25), "0 30 2 * * *", 1, id="time that comes twice, six fields"),
        pytest.param((2026, 3, 29), "0 * * * *", 23, id="hourly in spring"),
        pytest.param((2026, 10, 25), "0 * * * *", 25, id="hourly in autumn"),
        pytest.param((2026, 3, 29), "0 4 * * *", 1, id="after the jump in spring"),
        pytest.param((2026, 10, 25), "0 4 * * *", 1, id="after the jump in autumn"),
    ],
)
async def test_daylight_saving_repeats_nothing_and_leaves_nothing_out(
    tmp_path: Path,
    sender: ScriptedSender,
    day: tuple[int, int, int],
    cron: str,
    count: int,
) -> None:
    zone = "Europe/Paris"
    midnight = datetime(*day, tzinfo=ZoneInfo(zone))
    clock = FakeClock(Moment(round(midnight.timestamp() * 1e6) - 1))
    hours = round(((midnight + timedelta(days=1)).timestamp() - midnight.timestamp()) / HOUR)
    async with running(tmp_path / "tasks.sqlite3", clock, sender) as service:
        await put_schedule(service, cron, timezone=zone)

        await pass_by_hours(service, hours)

        assert len(sender.requests) == count


@pytest.mark.parametrize("change", ["pause and resume", "other times"])
async def test_schedule_changed_after_the_clock_went_back_fires_nothing_earlier_again(
    service: Service, clock: FakeClock, sender: ScriptedSender, change: str
) -> None:
    await put_schedule(service, "@every 1h")
    await service.advance(3 * HOUR + 1)
    fired = len(sender.requests)

    clock.jump(-2 * HOUR)
    if change == "other times":
        body = {"cron": "*/5 * * * *", "task": {"url": URL}, "overlap": "allow"}
        assert (await request(service.app, "PUT", "/v1/schedules/s", body)).status == 200
    else:
        for what in ("pause", "resume"):
            assert (await request(service.app, "POST", f"/v1/schedules/s/{what}")).status == 200
    await service.advance(2 * HOUR - 2)
    meanwhile = len(sender.requests)
    await service.advance(HOUR + 2)

    assert (fired, meanwhile) == (3, 3)
    assert len(sender.requests) > meanwhile
