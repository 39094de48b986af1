"""A clock that is wrong for a while delays nothing that was not delayed, and deletes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.integration.asgi import request
from tests.integration.service import Service, running

URL = "http://app.test/run"
MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
HUNDRED_DAYS = 100 * DAY
AHEAD = "clock was set ahead"
BACK = "clock was set back"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.sqlite3"


@pytest.fixture
async def service(path: Path, clock: FakeClock, sender: ScriptedSender) -> AsyncIterator[Service]:
    async with running(path, clock, sender) as service:
        await service.advance(2 * HOUR)
        yield service


async def ask(service: Service, method: str, path: str, body: object = None) -> Any:
    answer = await request(service.app, method, path, body)
    assert answer.status < 400, answer
    return answer.json


async def push(service: Service, **fields: object) -> str:
    found = await ask(service, "POST", "/v1/tasks", {"url": URL, **fields})
    id: str = found["id"]
    return id


async def states(service: Service, *ids: str) -> list[str]:
    answers = [await request(service.app, "GET", f"/v1/tasks/{id}") for id in ids]
    return [answer.json["state"] if answer.status == 200 else "gone" for answer in answers]


async def slow_down(service: Service) -> None:
    """Limit a queue to one attempt in ten minutes, so that most tasks wait."""
    await ask(service, "PUT", "/v1/queues/slow", {"rate": 1 / 600, "burst": 1})


async def speed_up(service: Service) -> None:
    await ask(service, "PUT", "/v1/queues/slow", {})


async def kill(service: Service, **fields: object) -> str:
    """Push a task that dies at once."""
    id = await push(service, retry={"max_attempts": 1}, **fields)
    await service.advance(0)
    return id


async def test_tasks_pushed_while_the_clock_was_ahead_are_due_when_it_is_right(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    await slow_down(service)
    clock.jump(DAY)
    ids = [await push(service, queue="slow") for _ in range(60)]
    await service.advance(0)

    clock.jump(-DAY)
    await speed_up(service)
    await service.advance(10)

    assert await states(service, *ids) == ["succeeded"] * 60
    assert len(sender.requests) == 60


async def test_unique_task_of_a_wrong_time_swallows_no_later_pushes(
    service: Service, clock: FakeClock
) -> None:
    await slow_down(service)
    clock.jump(DAY)
    await push(service, queue="slow")
    first = await push(service, queue="slow", unique="u")
    await service.advance(0)

    clock.jump(-DAY)
    await speed_up(service)
    await service.advance(10)
    second = await push(service, queue="slow", unique="u")

    assert first != second
    assert await states(service, first) == ["succeeded"]


@pytest.mark.parametrize("how", ["stopped", "machine restarted"])
async def test_clock_that_was_put_right_while_no_server_ran_delays_nothing_either(
    path: Path, clock: FakeClock, sender: ScriptedSender, how: str
) -> None:
    clock.jump(DAY)
    async with running(path, clock, sender) as service:
        await slow_down(service)
        ids = [await push(service, queue="slow") for _ in range(4)]
        await service.advance(MINUTE)
    if how == "machine restarted":
        clock.restart_machine(off_for=MINUTE)
    clock.jump(-DAY)

    async with running(path, clock, sender) as service:
        await speed_up(service)
        await service.advance(10)

        assert await states(service, *ids) == ["succeeded"] * 4


async def test_task_that_was_requeued_or_told_to_run_by_a_wrong_time_runs(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    sender.always(500)
    dead = [await kill(service, queue="slow") for _ in range(3)]
    delayed = await push(service, queue="slow", delay=30 * DAY)
    sender.always(200)
    await slow_down(service)
    clock.jump(DAY)
    for id in dead:
        await ask(service, "POST", f"/v1/tasks/{id}/requeue")
    await ask(service, "POST", f"/v1/tasks/{delayed}/run")
    await service.advance(0)

    clock.jump(-DAY)
    await speed_up(service)
    await service.advance(10)

    assert await states(service, *dead, delayed) == ["succeeded"] * 4


async def test_retry_of_a_wrong_time_waits_for_its_backoff_and_no_longer(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    sender.replies(500)
    retry = {"min_backoff": 100, "max_backoff": 100, "jitter": 0}
    clock.jump(DAY)
    id = await push(service, retry=retry)
    await service.advance(50)

    clock.jump(-DAY)
    await service.advance(99)
    before = sender.attempts_of(id)
    await service.advance(1)

    assert (before, sender.attempts_of(id)) == ([1], [1, 2])


async def test_delay_that_a_leap_shortens_is_whole_again_when_it_is_undone(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    await ask(service, "POST", "/v1/pause")
    id = await push(service, delay=HOUR)
    clock.jump(DAY)
    await service.advance(MINUTE)

    clock.jump(-DAY)
    await ask(service, "POST", "/v1/resume")
    await service.advance(HOUR - MINUTE - 1)
    before = sender.attempts_of(id)
    await service.advance(1)

    assert (before, sender.attempts_of(id)) == ([], [1])


async def test_schedule_that_fired_at_a_wrong_time_goes_on_when_it_is_right(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    schedule = {"cron": "*/5 * * * *", "task": {"url": URL}, "overlap": "allow"}
    await ask(service, "PUT", "/v1/schedules/s", schedule)
    await service.advance(HOUR)
    clock.jump(DAY / 2)
    await service.advance(MINUTE)
    clock.jump(-DAY / 2)
    before = len(sender.requests)

    await service.advance(HOUR)

    assert len(sender.requests) == before + 12


async def test_leap_of_a_minute_prunes_no_dead_letters_and_no_keys(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    sender.always(500)
    dead = [await kill(service) for _ in range(3)]
    keyed = await kill(service, key="k")

    clock.jump(HUNDRED_DAYS)
    await service.advance(MINUTE)
    while_ahead = await push(service, retry={"max_attempts": 1}, key="k")
    clock.jump(-HUNDRED_DAYS)
    await service.advance(HOUR)
    afterwards = await push(service, retry={"max_attempts": 1}, key="k")

    assert await states(service, *dead, keyed) == ["dead"] * 4
    assert (while_ahead, afterwards) == (keyed, keyed)


@pytest.mark.parametrize("how", ["stopped", "machine restarted"])
async def test_server_that_starts_with_a_wrong_time_prunes_nothing_either(
    path: Path, clock: FakeClock, sender: ScriptedSender, how: str
) -> None:
    sender.always(500)
    async with running(path, clock, sender) as service:
        dead = await kill(service, key="k")
        await service.advance(2 * HOUR)
    clock.jump(HUNDRED_DAYS)

    for _ in range(2):
        if how == "machine restarted":
            clock.restart_machine(off_for=MINUTE)
        async with running(path, clock, sender) as service:
            await push(service, delay=DAY)
            await service.advance(MINUTE)
    clock.jump(-HUNDRED_DAYS)
    async with running(path, clock, sender) as service:
        await service.advance(2 * HOUR)

        assert await states(service, dead) == ["dead"]
        assert await push(service, retry={"max_attempts": 1}, key="k") == dead


async def test_what_dies_or_is_pushed_while_the_clock_is_behind_is_kept_as_long_as_others(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    sender.always(500)
    clock.jump(-HUNDRED_DAYS)
    dead = await kill(service, key="k")
    await service.advance(MINUTE)

    clock.jump(HUNDRED_DAYS)
    await service.advance(3 * HOUR)

    assert await states(service, dead) == ["dead"]
    assert await push(service, retry={"max_attempts": 1}, key="k") == dead


async def test_task_past_its_end_by_a_wrong_time_is_neither_sent_nor_buried(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    end = datetime.fromtimestamp(clock.now() / 1e6, UTC) + timedelta(hours=3)
    id = await push(service, delay=HOUR, expires_at=end.isoformat())

    clock.jump(DAY)
    await service.advance(MINUTE)
    found = await ask(service, "GET", f"/v1/tasks/{id}")
    while_ahead = len(sender.requests)
    clock.jump(-DAY)
    await service.advance(HOUR)

    assert (found["state"], while_ahead) == ("waiting", 0)
    assert [each["reason"] for each in found["waiting_for"]] == ["clock"]
    assert await states(service, id) == ["succeeded"]


async def test_attempt_over_which_the_clock_leaps_is_not_the_last_for_its_age(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    sender.always(500)
    sender.hangs()
    end = datetime.fromtimestamp(clock.now() / 1e6, UTC) + timedelta(hours=3)
    retry = {"min_backoff": 60, "max_backoff": 60, "jitter": 0}
    aging = await push(service, retry={**retry, "max_age": HOUR})
    expiring = await push(service, retry=retry, expires_at=end.isoformat())
    running = asyncio.create_task(service.advance(0))
    await let_run()

    clock.jump(DAY)
    sender.hangs_no_more()
    await running
    clock.jump(-DAY)
    await service.advance(MINUTE)

    assert await states(service, aging, expiring) == ["waiting"] * 2
    assert [sender.attempts_of(id) for id in (aging, expiring)] == [[1, 2]] * 2


async def test_leap_that_lasts_is_believed_an_hour_later(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    sender.always(500)
    end = datetime.fromtimestamp(clock.now() / 1e6, UTC) + timedelta(hours=3)
    dead = await kill(service, key="k")
    expiring = await push(service, delay=DAY, expires_at=end.isoformat())

    clock.jump(HUNDRED_DAYS)
    await service.advance(HOUR - 1)
    before = await states(service, dead, expiring)
    await service.advance(2 * MINUTE)

    assert before == ["dead", "waiting"]
    assert await states(service, dead, expiring) == ["gone", "dead"]
    assert await push(service, key="k") != dead


async def test_time_for_which_the_machine_slept_is_believed_at_once(
    service: Service, clock: FakeClock, sender: ScriptedSender
) -> None:
    sender.always(500)
    dead = await kill(service)

    clock.suspend_machine(HUNDRED_DAYS)
    await service.advance(2 * MINUTE)

    assert await states(service, dead) == ["gone"]


async def test_leap_is_in_the_log_and_the_statistics(
    service: Service, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    shown = [(await ask(service, "GET", "/v1/stats"))["clock_leap"]]
    for seconds in (DAY, -DAY):
        clock.jump(seconds)
        await service.advance(10)
        shown.append((await ask(service, "GET", "/v1/stats"))["clock_leap"])
    clock.jump(HOUR)
    await service.advance(HOUR + 20)
    shown.append((await ask(service, "GET", "/v1/stats"))["clock_leap"])

    assert shown == [None, DAY, None, None]
    said = [record.message for record in caplog.records if "clock" in record.message]
    assert said == [AHEAD, BACK, AHEAD, "clock is confirmed"]
