from __future__ import annotations

import pytest

from poussetaches.core.moment import DAY, HOUR, SECOND, Moment, later
from poussetaches.core.queue import QueueSettings
from poussetaches.core.task import Reason, TaskState
from poussetaches.engine.config import EngineConfig
from poussetaches.engine.engine import Engine
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import EngineWith, run_due
from tests.factories import NOW, make_schedule
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.store.driving import known
from tests.store.sqlite_files import FULL, Disk


async def fire_due(engine: Engine) -> None:
    """Fire what is due and run it."""
    await engine.scheduler.tick()
    await run_due(engine)


async def only_schedule(store: SqliteStore) -> tuple[Moment, Moment | None]:
    """Return when the only schedule runs next, and what it fired last."""
    (schedule,) = await store.schedules("original")
    return schedule.next_run_at, schedule.last_fired_at


async def test_due_schedule_makes_a_run_of_its_task(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await store.put_schedule(make_schedule())

    wake_at = await engine.scheduler.tick()
    await run_due(engine)

    assert len(sender.requests) == 1
    run = await known(store, sender.requests[0].headers["Poussetaches-Task-ID"])
    assert (run.schedule, run.created_at, run.state) == ("schedule", NOW, TaskState.SUCCEEDED)
    assert await only_schedule(store) == (Moment(NOW + HOUR), NOW)
    assert wake_at == clock.monotonic() + 3600


async def test_schedule_never_fires_early(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await store.put_schedule(make_schedule(next_run_at=later(NOW, 10)))

    clock.advance(9.999999)
    await fire_due(engine)
    assert sender.requests == []

    clock.advance(0.000001)
    await fire_due(engine)
    assert len(sender.requests) == 1


async def test_nothing_is_waited_for_without_schedules(engine: Engine) -> None:
    assert await engine.scheduler.tick() is None


async def test_occurrences_missed_while_down_are_made_up_for_by_one_run(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await store.put_schedule(make_schedule())
    clock.advance(5 * 3600 + 600)

    for _ in range(3):
        await fire_due(engine)

    assert len(sender.requests) == 1
    assert await only_schedule(store) == (Moment(NOW + 6 * HOUR), Moment(NOW + 5 * HOUR))


async def test_every_counts_from_the_anchor_however_late_it_fires(
    engine: Engine, store: SqliteStore, clock: FakeClock
) -> None:
    await store.put_schedule(make_schedule(cron="@every 90s", anchor_at=NOW, next_run_at=NOW))

    clock.advance(200)
    await engine.scheduler.tick()

    assert (await only_schedule(store))[0] == later(NOW, 270)


async def test_occurrence_is_skipped_while_the_last_run_is_running(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await store.put_schedule(make_schedule())
    sender.hangs()
    await engine.scheduler.tick()
    await engine.dispatcher.tick()
    await let_run()

    clock.advance(3600)
    await engine.scheduler.tick()
    await engine.dispatcher.tick()
    await let_run()

    assert len(sender.requests) == 1
    assert (await only_schedule(store))[0] == Moment(NOW + 2 * HOUR)


async def test_run_that_waits_for_a_retry_is_superseded_by_the_next(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await store.put_schedule(make_schedule(cron="@every 2s", anchor_at=NOW))
    sender.replies(500, 500, 200)
    await fire_due(engine)
    clock.advance(1)
    await run_due(engine)
    first = sender.requests[0].headers["Poussetaches-Task-ID"]

    clock.advance(1)
    await fire_due(engine)

    run = await known(store, first)
    assert (run.state, run.reason) == (TaskState.DEAD, Reason.SUPERSEDED)
    assert sender.attempts_of(first) == [1, 2]
    assert len(sender.requests) == 3


async def test_failing_daily_schedule_starts_every_day(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(EngineConfig(queue=QueueSettings()))
    schedule = make_schedule(cron="@every 24h", anchor_at=Moment(NOW - DAY))
    await store.put_schedule(schedule)
    sender.always(500)

    for _ in range(20 * 24 + 1):
        await fire_due(engine)
        clock.advance(3600)

    firsts = [r for r in sender.requests if r.headers["Poussetaches-Attempt"] == "1"]
    assert len(firsts) == 21


async def test_schedule_that_fired_for_a_time_far_ahead_starts_anew(
    engine: Engine,
    store: SqliteStore,
    sender: ScriptedSender,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await store.put_schedule(make_schedule())
    clock.jump(30 * 86_400)
    await fire_due(engine)
    clock.jump(-30 * 86_400)

    await fire_due(engine)
    clock.advance(3600)
    await fire_due(engine)

    assert "schedule starts anew, it was of a time still to come" in caplog.messages
    assert len(sender.requests) == 2


async def test_clock_set_back_by_an_hour_fires_nothing_twice(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await store.put_schedule(make_schedule())
    await fire_due(engine)

    clock.jump(-3600)
    for _ in range(120):
        await fire_due(engine)
        clock.advance(59)

    assert len(sender.requests) == 1


async def test_schedules_wait_for_the_store(
    engine: Engine, store: SqliteStore, clock: FakeClock, disk: Disk
) -> None:
    await store.put_schedule(make_schedule())
    disk.error = FULL

    assert await engine.scheduler.tick() == clock.monotonic() + 1

    disk.error = None
    await store.recover()
    await engine.scheduler.tick()
    assert (await only_schedule(store))[1] == NOW


async def test_moments_of_a_cron_line_are_in_its_time_zone(
    engine: Engine, store: SqliteStore
) -> None:
    await store.put_schedule(make_schedule(cron="0 3 * * *", timezone="Europe/Paris"))

    await engine.scheduler.tick()

    # 03:00 in Paris is 01:00 UTC in September.
    assert ((await only_schedule(store))[0] // SECOND) % 86_400 == 3600


async def test_occurrence_missed_by_over_a_day_is_left_out(
    engine: Engine,
    store: SqliteStore,
    sender: ScriptedSender,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await store.put_schedule(make_schedule(cron="@every 168h", anchor_at=NOW, next_run_at=NOW))
    clock.advance(86_401)

    await fire_due(engine)

    assert sender.requests == []
    assert "occurrence missed" in caplog.messages
    assert await only_schedule(store) == (Moment(NOW + 7 * DAY), NOW)


@pytest.mark.parametrize("change", [{"cron": "nonsense"}, {"timezone": "Nowhere/At_All"}])
async def test_schedule_that_cannot_be_read_stops_no_other(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, change: dict[str, str]
) -> None:
    await store.put_schedule(make_schedule("a-broken", **change))
    await store.put_schedule(make_schedule("b-good"))

    await fire_due(engine)

    assert len(sender.requests) == 1


async def test_schedule_made_while_the_clock_was_far_ahead_starts_anew(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    ahead = Moment(NOW + 365 * DAY)
    await store.put_schedule(
        make_schedule(created_at=ahead, anchor_at=ahead, next_run_at=Moment(ahead + HOUR))
    )
    await engine.scheduler.tick()
    clock.advance(3600)

    await fire_due(engine)

    assert len(sender.requests) == 1
