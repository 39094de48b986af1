from __future__ import annotations

from collections import Counter

import pytest

from poussetaches.core.moment import DAY, SECOND, Moment, later
from poussetaches.core.queue import Lane, QueueSettings
from poussetaches.engine.config import EngineConfig
from poussetaches.engine.engine import Engine
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.origins import Origins
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import EngineWith, run_due
from tests.factories import NOW, make_task
from tests.fakes import FakeClock, ScriptedSender, let_run

A = Lane("default", "http://a.test:80")
B = Lane("default", "http://b.test:80")
C = Lane("other", "http://c.test:80")


def lanes_of(clock: FakeClock, settings: QueueSettings, *due: Lane) -> Lanes:
    """Return lanes that have each a due task."""
    lanes = Lanes(lambda _: settings, origins=Origins(hold_for=3600), clock=clock)
    for lane in due:
        lanes.waits(lane, NOW)
    return lanes


def look(lanes: Lanes, lane: Lane, next_due: Moment | None) -> None:
    """Tell what a look at the store has found."""
    lanes.looking([lane])
    lanes.looked(lane, next_due)


def start(lanes: Lanes, wanted: dict[Lane, int]) -> None:
    """Take the slots that were offered."""
    for lane, count in wanted.items():
        for _ in range(count):
            lanes.started(lane)


def test_lone_lane_may_use_every_slot(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=8), A)

    assert lanes.startable(256) == {A: 8}


@pytest.mark.parametrize(("concurrency", "share"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6)])
def test_lane_beside_another_may_hold_three_quarters_of_the_slots(
    clock: FakeClock, concurrency: int, share: int
) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=concurrency), A)
    lanes.used(B, Moment(NOW - DAY + SECOND))

    assert lanes.startable(256) == {A: share}


def test_lane_used_over_a_day_ago_reserves_nothing(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=8), A, B)
    look(lanes, B, None)

    clock.advance(86_401)

    assert lanes.startable(256) == {A: 8}


def test_lane_of_another_queue_reserves_nothing(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=8), A)
    lanes.used(C, NOW)

    assert lanes.startable(256) == {A: 8}


def test_slots_set_for_an_origin_take_the_place_of_three_quarters(clock: FakeClock) -> None:
    settings = QueueSettings(concurrency=8, origin_concurrency=2)
    lanes = lanes_of(clock, settings, A, B)

    assert lanes.startable(256) == {A: 2, B: 2}


def test_lanes_of_a_queue_share_its_slots(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=4), A, B)

    assert lanes.startable(256) == {A: 2, B: 2}


def test_queues_take_turns(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=4), A, C)

    assert lanes.startable(4) == {A: 2, C: 2}


def test_turns_go_on_where_they_ended(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=4), A, B, C)

    starts: Counter[Lane] = Counter()
    for _ in range(8):
        starts.update(lanes.startable(1))

    assert starts == {A: 2, B: 2, C: 4}


def test_concurrency_is_never_exceeded(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=4), A)
    start(lanes, lanes.startable(256))

    assert lanes.startable(256) == {}

    lanes.ended(A)
    assert lanes.startable(256) == {A: 1}


def test_rate_is_a_bucket_of_tokens(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=100, rate=2.0, burst=3), A)
    start(lanes, lanes.startable(256))
    assert lanes.startable(256) == {}
    assert lanes.wake_at() == clock.monotonic() + 0.5

    clock.advance(0.499)
    assert lanes.startable(256) == {}

    clock.advance(0.001)
    assert lanes.startable(256) == {A: 1}


def test_delayed_task_is_waited_for(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings())
    lanes.waits(A, later(NOW, 7))

    assert lanes.startable(256) == {}
    assert lanes.wake_at() == clock.monotonic() + 7


def test_nothing_is_waited_for_when_nothing_waits(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(), A)
    look(lanes, A, None)

    assert lanes.wake_at() is None


def test_task_heard_of_during_a_look_at_the_store_is_not_forgotten(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(), A)
    lanes.looking([A])
    lanes.waits(A, later(NOW, 5))

    lanes.looked(A, None)

    assert lanes.wake_at() == clock.monotonic() + 5


def test_lane_looked_at_often_takes_no_more_memory(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings())

    for number in range(1000):
        look(lanes, A, Moment(NOW + DAY))
        lanes.waits(B, Moment(NOW + DAY - number))

    assert len(lanes._later) < 200
    assert lanes.wake_at() == pytest.approx(clock.monotonic() + 86_400, abs=0.01)


def test_idle_lane_is_forgotten_after_a_day(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(), A, B)
    look(lanes, A, None)
    clock.advance(86_401)

    lanes.forget_idle()

    assert list(lanes._queues["default"].lanes) == [B]


async def test_hung_origin_leaves_a_quarter_of_the_slots_to_others(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    engine = await engine_with(EngineConfig(queue=QueueSettings(concurrency=4)))
    await store.add(make_task("known", url="http://b.test/"))
    await run_due(engine)
    sender.hangs(to="http://a.test/")
    for number in range(20):
        await store.add(make_task(f"hangs-{number}", url="http://a.test/"))
    await engine.dispatcher.tick()
    await let_run()
    for number in range(5):
        await store.add(make_task(f"quick-{number}", url="http://b.test/"))

    for _ in range(5):
        await engine.dispatcher.tick()
        await let_run()

    assert engine.dispatcher.in_flight == sender.hung_count == 3
    assert sender.urls.count("http://b.test/") == 6


async def test_server_never_exceeds_max_in_flight(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    engine = await engine_with(EngineConfig(max_in_flight=5))
    sender.hangs()
    for number in range(20):
        await store.add(make_task(f"task-{number}", queue=f"queue-{number % 4}"))

    await engine.dispatcher.tick()
    await let_run()
    await engine.dispatcher.tick()

    assert engine.dispatcher.in_flight == 5


async def test_delayed_tasks_of_a_high_priority_never_hide_a_due_one(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    for number in range(500):
        await store.add(make_task(f"later-{number}", priority=100, run_at=later(NOW, 60)))
    await store.add(make_task("due", priority=-100))

    await run_due(engine)

    assert sender.attempts_of("due") == [1]
    assert len(sender.requests) == 1


async def test_within_a_lane_priority_is_strict_and_then_the_earliest_comes_first(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    engine = await engine_with(EngineConfig(queue=QueueSettings(concurrency=1)))
    await store.add(make_task("low", run_at=Moment(NOW - SECOND)))
    await store.add(make_task("high", priority=5))
    await store.add(make_task("early", priority=5, run_at=Moment(NOW - SECOND)))

    for _ in range(3):
        await run_due(engine)

    ids = [request.headers["Poussetaches-Task-ID"] for request in sender.requests]
    assert ids == ["early", "high", "low"]


async def test_rate_of_a_queue_is_kept_over_time(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(EngineConfig(queue=QueueSettings(rate=2.0, burst=1)))
    for number in range(50):
        await store.add(make_task(f"task-{number}"))

    for _ in range(100):
        await run_due(engine)
        clock.advance(0.1)

    assert len(sender.requests) == 20
