from __future__ import annotations

import pytest

from poussetaches.core.moment import DAY, HOUR, SECOND, Moment, later
from poussetaches.core.queue import QueueSettings
from poussetaches.core.responses import QueueCounts
from poussetaches.core.schedule import Misfire, Overlap, Schedule
from poussetaches.core.task import Reason, TaskState
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.store.base import News
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import EngineWith, run_due
from tests.factories import NOW, make_schedule, make_task, seeded
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.store.driving import counts_of, known, put_schedule
from tests.store.sqlite_files import FULL, Disk, opened


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
    await put_schedule(store, make_schedule())

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
    await put_schedule(store, make_schedule(next_run_at=later(NOW, 10)))

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
    await put_schedule(store, make_schedule())
    clock.advance(5 * 3600 + 600)

    for _ in range(3):
        await fire_due(engine)

    assert len(sender.requests) == 1
    assert await only_schedule(store) == (Moment(NOW + 6 * HOUR), Moment(NOW + 5 * HOUR))


async def test_every_counts_from_the_anchor_however_late_it_fires(
    engine: Engine, store: SqliteStore, clock: FakeClock
) -> None:
    await put_schedule(store, make_schedule(cron="@every 90s", anchor_at=NOW, next_run_at=NOW))

    clock.advance(200)
    await engine.scheduler.tick()

    assert (await only_schedule(store))[0] == later(NOW, 270)


async def test_occurrence_is_skipped_while_the_last_run_is_running(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await put_schedule(store, make_schedule())
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
    await put_schedule(store, make_schedule(cron="@every 2s", anchor_at=NOW))
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
    first = Moment(NOW + HOUR)
    anchor = Moment(first - DAY)
    await put_schedule(
        store, make_schedule(cron="@every 24h", anchor_at=anchor, next_run_at=first)
    )
    sender.always(500)
    started_at = []

    for _ in range(20 * 24):
        clock.advance(3600)
        before = len(sender.requests)
        await fire_due(engine)
        numbers = [r.headers["Poussetaches-Attempt"] for r in sender.requests[before:]]
        started_at += [clock.now()] * numbers.count("1")

    assert started_at == [Moment(first + day * DAY) for day in range(20)]


async def test_schedule_that_fired_for_a_time_far_ahead_starts_anew(
    engine: Engine,
    store: SqliteStore,
    sender: ScriptedSender,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await put_schedule(store, make_schedule())
    clock.jump(30 * 86_400)
    await fire_due(engine)
    clock.jump(-30 * 86_400)

    await fire_due(engine)
    clock.advance(3600)
    await fire_due(engine)

    assert "schedule restarted after the clock was set back" in caplog.messages
    assert len(sender.requests) == 2


async def test_clock_set_back_by_an_hour_fires_nothing_twice(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await put_schedule(store, make_schedule())
    await fire_due(engine)

    clock.jump(-3600)
    for _ in range(120):
        await fire_due(engine)
        clock.advance(59)

    assert len(sender.requests) == 1


async def test_schedules_wait_for_the_store(
    engine: Engine, store: SqliteStore, clock: FakeClock, disk: Disk
) -> None:
    await put_schedule(store, make_schedule())
    disk.error = FULL

    assert await engine.scheduler.tick() == clock.monotonic() + 1

    disk.error = None
    await store.recover()
    await engine.scheduler.tick()
    assert (await only_schedule(store))[1] == NOW


async def test_moments_of_a_cron_line_are_in_its_time_zone(
    engine: Engine, store: SqliteStore
) -> None:
    await put_schedule(store, make_schedule(cron="0 3 * * *", timezone="Europe/Paris"))

    await engine.scheduler.tick()

    # 03:00 in Paris is 01:00 UTC in September.
    assert ((await only_schedule(store))[0] // SECOND) % 86_400 == 3600


async def test_run_has_what_the_template_says(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    template = make_task("template", queue="reports", method="PUT", labels={"kind": "report"})
    await put_schedule(store, make_schedule(task=template))

    await fire_due(engine)

    (request,) = sender.requests
    run = await known(store, request.headers["Poussetaches-Task-ID"])
    assert (run.queue, run.method, run.labels) == ("reports", "PUT", {"kind": "report"})
    assert run.id != "template"


async def test_paused_schedule_fires_nothing(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await put_schedule(store, make_schedule(paused=True))

    await fire_due(engine)

    assert sender.requests == []


async def test_schedule_that_allows_it_starts_beside_its_last_run(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await put_schedule(store, make_schedule(overlap=Overlap.ALLOW))
    sender.hangs()
    await engine.scheduler.tick()
    await engine.dispatcher.tick()
    await let_run()

    clock.advance(3600)
    await engine.scheduler.tick()
    await engine.dispatcher.tick()
    await let_run()

    assert len(sender.requests) == 2


# Misfires


def missed(misfire: Misfire, grace: float | None = None) -> Schedule:
    """Return a schedule of each hour; its runs may overlap, so that each can be seen."""
    return make_schedule(misfire=misfire, misfire_grace=grace, overlap=Overlap.ALLOW)


async def runs_after(
    seconds: float, schedule: Schedule, store: SqliteStore, engine: Engine, clock: FakeClock
) -> int:
    """Return how many runs are made when the first look comes that late."""
    await put_schedule(store, schedule)
    clock.advance(seconds)
    await engine.scheduler.tick()
    await engine.scheduler.tick()
    return (await counts_of(store)).get("default", QueueCounts()).waiting


@pytest.mark.parametrize(
    ("misfire", "grace", "late", "count"),
    [
        pytest.param(Misfire.ONCE, None, 5, 1, id="once: a little late"),
        pytest.param(Misfire.ONCE, None, 3599, 1, id="once: late"),
        pytest.param(Misfire.ONCE, None, 5 * 3600, 1, id="once: several missed"),
        pytest.param(Misfire.ONCE, 600.0, 600, 1, id="once: within its grace"),
        pytest.param(Misfire.ONCE, 600.0, 601, 0, id="once: past its grace"),
        pytest.param(Misfire.ONCE, 0.0, 10, 1, id="once: no grace, and on time"),
        pytest.param(Misfire.ONCE, 0.0, 11, 0, id="once: no grace, and late"),
        pytest.param(Misfire.SKIP, None, 10, 1, id="skip: a little late"),
        pytest.param(Misfire.SKIP, None, 11, 0, id="skip: late"),
        pytest.param(Misfire.SKIP, None, 5 * 3600 + 60, 0, id="skip: several missed"),
        pytest.param(Misfire.SKIP, None, 5 * 3600, 1, id="skip: several missed, one on time"),
        pytest.param(Misfire.ALL, None, 5, 1, id="all: a little late"),
        pytest.param(Misfire.ALL, None, 5 * 3600 + 60, 6, id="all: several missed"),
        pytest.param(Misfire.ALL, None, 30 * 3600, 25, id="all: no older than a day"),
        pytest.param(Misfire.ALL, 7200.0, 5 * 3600 + 60, 2, id="all: within its grace"),
        pytest.param(Misfire.ALL, 1e6, 200 * 3600, 100, id="all: a hundred at most"),
    ],
)
async def test_missed_occurrences_are_made_up_for_as_the_schedule_says(
    engine: Engine,
    store: SqliteStore,
    clock: FakeClock,
    *,
    misfire: Misfire,
    grace: float | None,
    late: float,
    count: int,
) -> None:
    schedule = missed(misfire, grace)

    assert await runs_after(late, schedule, store, engine, clock) == count

    hours = int(late // 3600)
    assert await only_schedule(store) == (
        Moment(NOW + (hours + 1) * HOUR),
        Moment(NOW + hours * HOUR),
    )


class DiskFiller:
    """Fills the disk once two commits have changed schedules."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._commits = 0

    def committed(self, news: News) -> None:
        """Count commits that changed schedules."""
        self._commits += news.schedules_changed
        if self._commits == 2:
            self._disk.error = FULL


async def test_stop_between_two_missed_occurrences_loses_none_and_doubles_none(
    engine: Engine, store: SqliteStore, clock: FakeClock, disk: Disk
) -> None:
    await put_schedule(store, missed(Misfire.ALL))
    clock.advance(5 * 3600)
    store.listen(DiskFiller(disk))
    await engine.scheduler.tick()
    before = (await counts_of(store))["default"].waiting

    disk.error = None
    await store.recover()
    await engine.scheduler.tick()

    assert before == 2
    assert (await counts_of(store))["default"].waiting == 6


async def test_occurrence_skipped_for_its_lateness_is_logged(
    engine: Engine, store: SqliteStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    await runs_after(60, missed(Misfire.SKIP), store, engine, clock)

    assert "occurrence missed" in caplog.messages


async def test_last_run_of_several_is_the_one_shown(
    engine: Engine, store: SqliteStore, clock: FakeClock
) -> None:
    await runs_after(3 * 3600, make_schedule(misfire=Misfire.ALL), store, engine, clock)

    (schedule,) = await store.schedules("original")
    assert schedule.last_task_id is not None
    assert await store.get(schedule.last_task_id) is not None


async def test_occurrence_missed_by_over_a_day_is_left_out(
    engine: Engine,
    store: SqliteStore,
    sender: ScriptedSender,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await put_schedule(store, make_schedule(cron="@every 168h", anchor_at=NOW, next_run_at=NOW))
    clock.advance(86_401)

    await fire_due(engine)

    assert sender.requests == []
    assert "occurrence missed" in caplog.messages
    assert await only_schedule(store) == (Moment(NOW + 7 * DAY), NOW)


@pytest.mark.parametrize("change", [{"cron": "nonsense"}, {"timezone": "Nowhere/At_All"}])
async def test_schedule_that_cannot_be_read_stops_no_other(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, change: dict[str, str]
) -> None:
    await put_schedule(store, make_schedule("a-broken", **change))
    await put_schedule(store, make_schedule("b-good"))

    await fire_due(engine)

    assert len(sender.requests) == 1


async def test_schedule_made_while_the_clock_was_far_ahead_starts_anew(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    ahead = Moment(NOW + 365 * DAY)
    await put_schedule(
        store, make_schedule(created_at=ahead, anchor_at=ahead, next_run_at=Moment(ahead + HOUR))
    )
    await engine.scheduler.tick()
    clock.advance(3600)

    await fire_due(engine)

    assert len(sender.requests) == 1


async def test_schedules_that_are_due_together_share_commits(sender: ScriptedSender) -> None:
    disk, clock = Disk(), FakeClock()
    async with opened(None, disk=disk) as store:
        schedules = [make_schedule(f"schedule-{number}", owner="shop") for number in range(250)]
        await store.replace_schedules("shop", None, schedules, now=NOW)
        config = EngineConfig()
        engine = Engine(store=store, sender=sender, clock=clock, random=seeded(), config=config)
        await engine.load()
        disk.commit_count = 0

        await engine.scheduler.tick()

        assert disk.commit_count < 20
        assert (await counts_of(store))["default"].waiting == 250
        await engine.stop(0)
