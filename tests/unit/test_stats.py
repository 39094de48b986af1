from __future__ import annotations

import pytest

from poussetaches.core.moment import DAY, HOUR, MINUTE, SECOND, Moment
from poussetaches.core.task import TaskState
from poussetaches.engine.stats import ALL_QUEUES, MOST_QUEUES, MOST_SAMPLES, Sample, Stats, added
from poussetaches.store.base import Change, News, TaskChange
from poussetaches.store.minute_row import MinuteRow
from poussetaches.store.sqlite import SqliteStore
from tests.factories import NOW, make_attempt, make_task, seeded
from tests.fakes import FakeClock
from tests.store.sqlite_files import FULL, Disk

THIS_MINUTE = Moment(NOW - NOW % MINUTE)
TO_NEXT = (MINUTE - NOW % MINUTE) / SECOND  # seconds


@pytest.fixture
def stats(store: SqliteStore, clock: FakeClock) -> Stats:
    return begun(store, clock)


def begun(store: SqliteStore, clock: FakeClock) -> Stats:
    return Stats(store=store, clock=clock, random=seeded())


def push(stats: Stats, queue: str = "default", count: int = 1) -> None:
    change = TaskChange("task", queue, Change.PUSHED, TaskState.WAITING)
    stats.committed(News(tasks=[change] * count))


async def pushed_by_minute(stats: Stats, minutes: int, queue: str = ALL_QUEUES) -> list[int]:
    return [row.pushed for row in await stats.rows(queue, minutes=minutes)]


def make_row(**fields: object) -> MinuteRow:
    return MinuteRow(**{"minute": THIS_MINUTE, **fields})  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        pytest.param([], 50, None, id="nothing"),
        pytest.param([7.0], 95, 7.0, id="one"),
        pytest.param([4.0, 1.0, 3.0, 2.0], 50, 2.0, id="even number"),
        pytest.param([3.0, 1.0, 2.0], 50, 2.0, id="odd number"),
        pytest.param([float(n) for n in range(1, 21)], 95, 19.0, id="exact rank"),
        pytest.param([float(n) for n in range(1, 11)], 95, 10.0, id="rank rounded up"),
    ],
)
def test_percentile_is_that_of_the_nearest_rank(
    values: list[float], percent: int, expected: float | None
) -> None:
    sample = Sample()
    for value in values:
        sample.add(value, seeded())

    assert sample.percentile(percent) == expected


def test_sample_of_many_values_keeps_some_of_them_all() -> None:
    sample, random = Sample(), seeded()

    for value in range(100 * MOST_SAMPLES):
        sample.add(value / MOST_SAMPLES, random)

    assert sample.percentile(50) == pytest.approx(50, abs=10)
    assert sample.percentile(95) == pytest.approx(95, abs=4)


async def test_attempts_are_counted_with_how_late_they_start_and_how_long_they_take(
    stats: Stats,
) -> None:
    for seconds in (1, 2, 3):
        task = make_task(queue="mail", run_at=Moment(NOW - seconds * SECOND))
        stats.attempt_started(task, now=NOW)
        stats.attempt_ended(
            task, make_attempt(duration=seconds / 10, succeeded=seconds == 1), now=NOW
        )

    expected = make_row(
        started=3,
        succeeded=1,
        failed=2,
        lateness_p50=2.0,
        lateness_p95=3.0,
        duration_p50=0.2,
        duration_p95=0.3,
    )
    assert await stats.rows(ALL_QUEUES, minutes=1) == [expected]
    assert [row.started for row in await stats.rows("mail", minutes=1)] == [3]
    assert [row.started for row in await stats.rows("other", minutes=1)] == [0]


async def test_attempt_that_starts_before_its_time_is_not_late(stats: Stats) -> None:
    stats.attempt_started(make_task(run_at=Moment(NOW + SECOND)), now=NOW)

    assert [row.lateness_p95 for row in await stats.rows(ALL_QUEUES, minutes=1)] == [0.0]


async def test_pushes_and_deaths_are_counted_as_they_are_committed(stats: Stats) -> None:
    changes = [Change.PUSHED, Change.PUSHED, Change.DIED, Change.STARTED, Change.EDITED]
    news = News(tasks=[TaskChange("task", "mail", change, None) for change in changes])

    stats.committed(news)

    (row,) = await stats.rows("mail", minutes=1)
    assert (row.pushed, row.died) == (2, 1)


async def test_totals_count_from_the_start(stats: Stats, clock: FakeClock) -> None:
    push(stats, count=2)
    clock.advance(HOUR / SECOND)
    push(stats)
    stats.attempt_ended(make_task(), make_attempt(), now=clock.now())
    stats.attempt_put_back(make_task())

    totals = stats.totals
    assert (totals.pushed, totals.failed, totals.succeeded, totals.put_back) == (3, 1, 0, 1)


async def test_there_is_a_row_for_each_minute_even_if_nothing_happened(
    stats: Stats, clock: FakeClock
) -> None:
    push(stats)
    clock.advance(2 * MINUTE / SECOND)
    push(stats, count=2)

    rows = await stats.rows(ALL_QUEUES, minutes=4)

    assert [row.pushed for row in rows] == [0, 1, 0, 2]
    assert [row.minute - THIS_MINUTE for row in rows] == [-MINUTE, 0, MINUTE, 2 * MINUTE]


async def test_minutes_that_are_over_are_kept_in_the_store(
    stats: Stats, clock: FakeClock, store: SqliteStore
) -> None:
    push(stats, "mail")
    await stats.tick()
    assert await store.minutes(ALL_QUEUES, since=THIS_MINUTE) == []

    clock.advance(TO_NEXT)
    await stats.tick()

    assert await store.minutes(ALL_QUEUES, since=THIS_MINUTE) == [make_row(pushed=1)]
    assert await store.minutes("mail", since=THIS_MINUTE) == [make_row(queue="mail", pushed=1)]
    assert await pushed_by_minute(stats, 2) == [1, 0]


async def test_next_look_is_when_the_minute_is_over(stats: Stats, clock: FakeClock) -> None:
    assert await stats.tick() == clock.monotonic() + TO_NEXT


async def test_server_that_starts_again_within_a_minute_adds_to_it(
    stats: Stats, clock: FakeClock, store: SqliteStore
) -> None:
    push(stats, "mail", 2)
    push(stats, "news")
    await stats.flush()
    again = begun(store, clock)
    push(again, "mail", 3)

    assert await pushed_by_minute(again, 1) == [6]
    clock.advance(TO_NEXT)
    await again.tick()

    assert await pushed_by_minute(again, 2) == [6, 0]
    assert await pushed_by_minute(again, 2, "mail") == [5, 0]
    assert await pushed_by_minute(again, 2, "news") == [1, 0]


async def test_minute_that_comes_twice_is_added_up(stats: Stats, clock: FakeClock) -> None:
    push(stats)
    clock.advance(TO_NEXT)
    await stats.tick()
    clock.jump(-TO_NEXT)
    push(stats, count=2)

    assert await pushed_by_minute(stats, 1) == [3]
    clock.advance(TO_NEXT)
    await stats.tick()
    assert await pushed_by_minute(stats, 2) == [3, 0]


async def test_rows_wait_while_the_store_cannot_be_written(
    stats: Stats, clock: FakeClock, store: SqliteStore, disk: Disk
) -> None:
    disk.error = FULL
    push(stats)
    clock.advance(TO_NEXT)
    await stats.tick()
    push(stats, count=2)
    assert await pushed_by_minute(stats, 2) == [1, 2]

    disk.error = None
    await store.recover()
    clock.advance(MINUTE / SECOND)
    await stats.tick()

    kept = await store.minutes(ALL_QUEUES, since=THIS_MINUTE)
    assert [row.pushed for row in kept] == [1, 2]


async def test_rows_that_waited_for_a_day_are_given_up(
    stats: Stats, clock: FakeClock, store: SqliteStore, disk: Disk
) -> None:
    disk.error = FULL
    push(stats)
    clock.advance(DAY / SECOND)
    push(stats, count=2)
    await stats.flush()

    disk.error = None
    await store.recover()
    await stats.flush()

    kept = await store.minutes(ALL_QUEUES, since=THIS_MINUTE)
    assert [row.pushed for row in kept] == [2]


async def test_only_the_busiest_queues_of_a_minute_are_kept_by_name(
    stats: Stats, store: SqliteStore
) -> None:
    for number in range(MOST_QUEUES + 1):
        push(stats, f"queue-{number}", 1 if number == 40 else 2)

    await stats.flush()

    assert await store.minutes("queue-40", since=THIS_MINUTE) == []
    assert len(await store.minutes("queue-41", since=THIS_MINUTE)) == 1
    (every,) = await store.minutes(ALL_QUEUES, since=THIS_MINUTE)
    assert every.pushed == 2 * MOST_QUEUES + 1


def test_sum_of_two_parts_has_the_percentiles_of_the_busier_one() -> None:
    quiet = make_row(started=1, lateness_p50=9.0, lateness_p95=9.0)
    busy = make_row(started=5, succeeded=5, lateness_p50=1.0, duration_p50=0.1)

    expected = make_row(
        started=6, succeeded=5, lateness_p50=1.0, lateness_p95=9.0, duration_p50=0.1
    )
    assert added(quiet, busy) == expected
    assert added(busy, quiet) == expected
