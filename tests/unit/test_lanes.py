from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from poussetaches.core.moment import DAY, SECOND, Moment, later
from poussetaches.core.queue import Lane, QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.origins import Origins
from poussetaches.engine.queue_registry import Queues
from tests.factories import NOW, make_queue
from tests.fakes import FakeClock

A = Lane("default", "http://a.test:80")
B = Lane("default", "http://b.test:80")
C = Lane("other", "http://c.test:80")
FORCED = A._replace(forced=True)
PATH = Lane("default", "")
REFUSED = "cannot connect: Connection refused"


class CountingQueues(Queues):
    """Queues that count the requests for each queue's settings."""

    asked = 0

    def settings_of(self, name: str) -> QueueSettings:
        """Count, and return what holds for a queue."""
        self.asked += 1
        return super().settings_of(name)


class Given:
    """Lanes that have each a due task, with what they depend on."""

    def __init__(self, clock: FakeClock, settings: QueueSettings, *due: Lane) -> None:
        self.clock = clock
        self.queues = CountingQueues(settings, original_retry=RetryPolicy())
        self.origins = Origins(hold_for=3600)
        self.lanes = Lanes(self.queues, origins=self.origins, clock=clock)
        self.on_wire: list[tuple[Lane, str]] = []
        for lane in due:
            self.lanes.add_waiting(lane, NOW)

    def set(self, name: str, *, paused: bool = False, **overrides: object) -> None:
        """Change a queue, as the store tells of it."""
        self.queues.update({name: make_queue(name, paused=paused, **overrides)})
        self.lanes.queue_changed(name)

    def start(self, room: int = 256) -> dict[Lane, int]:
        """Take the slots that are offered; every lane has more tasks than that."""
        wanted = self.lanes.startable(room)
        for lane, count in wanted.items():
            self.on_wire += [(lane, self.lanes.start_attempt(lane)) for _ in range(count)]
        return wanted

    def end(self, lane: Lane) -> None:
        """End the first attempt of a lane."""
        found = next(attempt for attempt in self.on_wire if attempt[0] == lane)
        self.on_wire.remove(found)
        self.lanes.end_attempt(*found)

    def hold(self, origin: str) -> None:
        """Refuse a connection to an origin."""
        self.origins.refused(origin, REFUSED, self.clock.monotonic())

    def let_go(self, origin: str) -> None:
        """Make the next probe of an origin succeed."""
        self.clock.advance(1)
        assert self.origins.begin_probes(self.clock.monotonic()) == [origin]
        self.origins.probed(origin, None, self.clock.monotonic())


def lanes_of(clock: FakeClock, settings: QueueSettings, *due: Lane) -> Lanes:
    """Return lanes that have each a due task."""
    return Given(clock, settings, *due).lanes


def look(lanes: Lanes, lane: Lane, next_due: Moment | None) -> None:
    """Report the result of a query to the lanes."""
    lanes.begin_lookup([lane])
    lanes.end_lookup(lane, next_due)


# Slots


def test_lone_lane_may_use_every_slot(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=8), A)

    assert lanes.startable(256) == {A: 8}


@pytest.mark.parametrize(("concurrency", "share"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6)])
def test_lane_beside_another_may_hold_three_quarters_of_the_slots(
    clock: FakeClock, concurrency: int, share: int
) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=concurrency), A)
    lanes.record_use(B, Moment(NOW - DAY + SECOND))

    assert lanes.startable(256) == {A: share}


def test_lane_used_over_a_day_ago_reserves_nothing(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=8), A, B)
    look(lanes, B, None)

    clock.advance(86_401)

    assert lanes.startable(256) == {A: 8}


def test_lane_of_another_queue_reserves_nothing(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=8), A)
    lanes.record_use(C, NOW)

    assert lanes.startable(256) == {A: 8}


def test_slots_set_for_an_origin_take_the_place_of_three_quarters(clock: FakeClock) -> None:
    settings = QueueSettings(concurrency=8, origin_concurrency=2)
    lanes = lanes_of(clock, settings, A, B)

    assert lanes.startable(256) == {A: 2, B: 2}


def test_lanes_of_a_queue_share_its_slots(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=4), A, B)

    assert lanes.startable(256) == {A: 2, B: 2}


@pytest.mark.parametrize("concurrency", [8, 100])
def test_origin_that_never_answers_holds_no_more_than_its_even_part(
    clock: FakeClock, concurrency: int
) -> None:
    given = Given(clock, QueueSettings(concurrency=concurrency), A, B)
    assert given.start(room=8) == {A: 4, B: 4}

    for _ in range(20):
        given.end(B)
        assert given.start(room=1) == {B: 1}


def test_origin_holds_more_than_its_even_part_while_the_others_have_nothing_due(
    clock: FakeClock,
) -> None:
    given = Given(clock, QueueSettings(concurrency=8), A, B)
    given.start()
    look(given.lanes, B, None)

    for _ in range(4):
        given.end(B)

    assert given.start() == {A: 2}  # three quarters


def test_lanes_of_one_origin_may_hold_every_slot_together(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=8), A, FORCED)

    assert lanes.startable(256) == {A: 4, FORCED: 4}


def test_concurrency_is_never_exceeded(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(concurrency=4), A)
    given.start()

    assert given.start() == {}

    given.end(A)
    assert given.start() == {A: 1}


# Turns


def test_queues_take_turns(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=4), A, C)

    assert lanes.startable(4) == {A: 2, C: 2}


def test_turns_go_on_where_they_ended(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(concurrency=4), A, B, C)

    starts: Counter[Lane] = Counter()
    for _ in range(8):
        starts.update(lanes.startable(1))

    assert starts == {A: 2, B: 2, C: 4}


def test_queues_that_share_the_last_slot_of_an_origin_take_turns(clock: FakeClock) -> None:
    lanes = [Lane(f"queue-{number}", "http://a.test:80") for number in range(3)]
    given = Given(clock, QueueSettings(), *lanes)
    given.hold("http://a.test:80")
    given.let_go("http://a.test:80")

    started = []
    for _ in range(6):
        (lane,) = given.start()
        assert given.start() == {}
        started.append(lane)
        given.end(lane)

    assert Counter(started) == dict.fromkeys(lanes, 2)


def test_promise_that_comes_to_nothing_leaves_its_slot_to_others(clock: FakeClock) -> None:
    """If the task was deleted, the next lane must not wait for an attempt to end."""
    given = Given(clock, QueueSettings(), A, Lane("other", A.origin))
    given.hold(A.origin)
    given.let_go(A.origin)

    (first,) = given.lanes.startable(256)
    look(given.lanes, first, None)

    (second,) = given.lanes.startable(256)
    assert {first, second} == {A, Lane("other", A.origin)}


# Rates


def test_rate_is_a_bucket_of_tokens(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(concurrency=100, rate=2.0, burst=3), A)
    assert given.start() == {A: 3}
    assert given.start() == {}
    assert given.lanes.wake_at() == clock.monotonic() + 0.5

    clock.advance(0.499)
    assert given.start() == {}

    clock.advance(0.001)
    assert given.start() == {A: 1}


def test_queue_without_tokens_is_woken_for_once(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(concurrency=100, rate=0.001), A)
    given.start()

    for number in range(1000):
        look(given.lanes, A, NOW)
        given.lanes.add_waiting(Lane("default", f"http://{number}.test:80"), NOW)
        given.start()

    assert len(given.lanes._openings) == 1


# Changes


def test_other_concurrency_of_a_queue_counts_at_once(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(concurrency=2), A)
    given.start()
    assert given.start() == {}

    given.set("default", concurrency=5)

    assert given.start() == {A: 3}


def test_other_rate_of_a_queue_counts_at_once(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(concurrency=100, rate=0.001), A)
    given.start()
    assert given.start() == {}

    given.set("default", rate=10.0)

    assert given.start() == {}
    assert given.lanes.wake_at() == pytest.approx(clock.monotonic() + 0.1)
    clock.advance(0.1)
    assert given.start() == {A: 1}


def test_rate_that_is_taken_away_limits_nothing_any_more(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(concurrency=8, rate=None), A)
    given.set("default", rate=0.001)
    given.start()
    assert given.start() == {}

    given.set("default")

    assert given.start() == {A: 7}


def test_setting_a_rate_again_and_again_gives_no_tokens(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(concurrency=1000), A)

    started = 0
    for number in range(100):
        given.set("default", rate=1.0, burst=5 + number % 2)
        started += sum(given.start().values())

    assert started <= 6


# Pauses


def test_paused_queue_starts_nothing_until_it_is_resumed(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(), A, C)
    given.set("default", paused=True)

    assert given.start() == {C: 4}
    given.set("default", paused=False)
    assert given.start() == {A: 4}


def test_paused_server_starts_nothing_until_it_is_resumed(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(), A, C)
    given.lanes.pause(True)

    assert given.start() == {}
    given.lanes.pause(False)
    assert given.start() == {A: 4, C: 4}


def test_no_pause_stops_a_lane_that_was_told_to_run(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(), A, FORCED)
    given.set("default", paused=True)
    given.lanes.pause(True)

    assert given.start() == {FORCED: 4}
    assert given.lanes.limits.of_pauses(A)
    assert not given.lanes.limits.of_pauses(FORCED)


def test_pause_of_the_server_does_not_touch_that_of_a_queue(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(), A, C)
    given.set("default", paused=True)

    given.lanes.pause(True)
    given.lanes.pause(False)

    assert given.start() == {C: 4}


# Lanes that lead to one origin


@pytest.fixture(params=["forced", "path"])
def sibling(request: pytest.FixtureRequest) -> Lane:
    """Return another lane that leads to the origin of A."""
    return FORCED if request.param == "forced" else PATH


def siblings(clock: FakeClock, sibling: Lane, *more: Lane, **settings: object) -> Given:
    """Return A and a sibling that leads where it does."""
    queue = msgspec.structs.replace(QueueSettings(base_url="http://A.test/app"), **settings)
    return Given(clock, queue, A, sibling, *more)


def test_siblings_share_the_slots_of_an_origin(clock: FakeClock, sibling: Lane) -> None:
    given = siblings(clock, sibling, concurrency=8, origin_concurrency=3)

    wanted = given.start()

    assert sum(wanted.values()) == 3
    assert set(wanted) == {A, sibling}
    given.end(A)
    assert sum(given.start().values()) == 1


def test_siblings_are_alone_together(clock: FakeClock, sibling: Lane) -> None:
    given = siblings(clock, sibling, concurrency=8)

    assert sum(given.start().values()) == 8


def test_siblings_together_hold_three_quarters(clock: FakeClock, sibling: Lane) -> None:
    given = siblings(clock, sibling, concurrency=8)
    given.lanes.record_use(B, NOW)

    assert sum(given.start().values()) == 6


def test_siblings_wait_together_when_the_origin_asks(clock: FakeClock, sibling: Lane) -> None:
    given = siblings(clock, sibling, B)
    given.lanes.asked_to_wait("default", A.origin, until=clock.monotonic() + 90)

    assert set(given.start()) == {B}
    assert given.lanes.wake_at() == clock.monotonic() + 90
    clock.advance(89.999999)
    assert set(given.start()) == set()
    clock.advance(0.000001)
    assert sum(given.start().values()) == 1
    given.end(B)
    assert sum(given.start().values()) == 1


def test_siblings_are_held_and_let_go_together(clock: FakeClock, sibling: Lane) -> None:
    given = siblings(clock, sibling)
    given.hold(A.origin)
    assert given.start() == {}

    given.let_go(A.origin)
    first = given.start()
    given.origins.answered(A.origin)
    second = given.start()

    assert (sum(first.values()), sum(second.values())) == (1, 1)
    assert set(first) | set(second) == {A, sibling}


def test_path_leads_where_the_base_url_of_its_queue_does_now(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(concurrency=4), PATH, B)
    given.set("default", base_url="http://b.test")
    given.hold(B.origin)
    assert given.start() == {}

    given.set("default", base_url="http://elsewhere.test")

    assert given.start() == {PATH: 3}
    assert {origin for _, origin in given.on_wire} == {"http://elsewhere.test:80"}


def test_attempt_that_began_under_another_base_url_frees_the_slot_that_it_took(
    clock: FakeClock,
) -> None:
    given = Given(clock, QueueSettings(origin_concurrency=2, base_url="http://a.test"), PATH)
    given.start()
    given.set("default", base_url="http://b.test")
    assert given.start() == {PATH: 2}

    given.end(PATH)
    given.end(PATH)

    assert given.start() == {}
    given.end(PATH)
    assert given.start() == {PATH: 1}


def test_origin_that_nothing_leads_to_any_more_leaves_its_slots_with_its_last_attempt(
    clock: FakeClock,
) -> None:
    given = Given(clock, QueueSettings(concurrency=8, base_url="http://a.test"), PATH)
    given.start(1)
    given.set("default", base_url="http://b.test")
    assert given.start() == {PATH: 6}
    assert given.start() == {}

    given.end(PATH)

    assert given.start() == {PATH: 2}


def test_path_that_leads_nowhere_has_no_limit_but_its_queues(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(concurrency=4, origin_concurrency=1), PATH)

    assert given.start() == {PATH: 4}


# Looking costs nothing for what cannot start


def test_queues_without_room_are_not_looked_at_again(clock: FakeClock) -> None:
    busy = [Lane(f"queue-{number}", "http://a.test:80") for number in range(1000)]
    given = Given(clock, QueueSettings(concurrency=1), *busy)
    given.start(5000)
    assert given.start(5000) == {}
    given.queues.asked = 0

    given.end(busy[500])

    assert given.start(5000) == {busy[500]: 1}
    assert given.queues.asked < 20


def test_lanes_without_room_are_not_looked_at_again(clock: FakeClock) -> None:
    away = [Lane("default", f"http://{number}.test:80") for number in range(1000)]
    given = Given(clock, QueueSettings(concurrency=8), *away, B)
    for lane in away:
        given.hold(lane.origin)
    assert given.start() == {B: 6}
    given.end(B)
    given.queues.asked = 0

    assert given.start() == {B: 1}
    assert given.queues.asked < 20


def test_paused_queues_are_not_looked_at_again(clock: FakeClock) -> None:
    paused = [Lane(f"queue-{number}", "http://a.test:80") for number in range(1000)]
    given = Given(clock, QueueSettings(concurrency=1), *paused)
    for lane in paused:
        given.set(lane.queue, paused=True)
    assert given.start() == {}
    given.queues.asked = 0

    given.lanes.add_waiting(B, NOW)

    assert given.start() == {B: 1}
    assert given.queues.asked < 20


def test_task_added_to_a_lane_without_room_brings_nothing_back(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(), A)
    given.hold(A.origin)
    given.start()

    given.lanes.add_waiting(A, Moment(NOW - SECOND))

    assert not given.lanes.is_behind()
    assert given.start() == {}
    assert given.lanes.was_due(A, Moment(NOW - SECOND))


# Time


def test_delayed_task_is_waited_for(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings())
    lanes.add_waiting(A, later(NOW, 7))

    assert lanes.startable(256) == {}
    assert lanes.wake_at() == clock.monotonic() + 7


def test_nothing_is_waited_for_when_nothing_waits(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(), A)
    look(lanes, A, None)

    assert lanes.wake_at() is None


def test_task_heard_of_during_a_look_at_the_store_is_not_forgotten(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(), A)
    lanes.begin_lookup([A])
    lanes.add_waiting(A, later(NOW, 5))

    lanes.end_lookup(A, None)

    assert lanes.wake_at() == clock.monotonic() + 5


def test_lane_looked_at_often_takes_no_more_memory(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings())

    for number in range(1000):
        look(lanes, A, Moment(NOW + DAY))
        lanes.add_waiting(B, Moment(NOW + DAY - number))

    assert len(lanes._later) < 200
    assert lanes.wake_at() == pytest.approx(clock.monotonic() + 86_400, abs=0.01)


def test_origin_that_asked_to_wait_takes_no_more_memory_however_often_it_is_looked_at(
    clock: FakeClock,
) -> None:
    given = Given(clock, QueueSettings(), A)
    given.lanes.asked_to_wait("default", A.origin, until=clock.monotonic() + 3600)

    for _ in range(1000):
        given.lanes.pause(False)
        assert given.start() == {}

    assert len(given.lanes._openings) == 1
    clock.advance(3600)
    assert given.start() == {A: 4}


def test_tasks_of_an_origin_that_stays_away_are_to_be_charged_unless_paused(
    clock: FakeClock,
) -> None:
    given = Given(clock, QueueSettings(), A, C._replace(origin=A.origin), B)
    given.set("other", paused=True)
    given.hold(A.origin)
    assert given.start() == {B: 3}
    assert given.lanes.charged() == {}
    assert given.lanes.wake_at() == clock.monotonic() + 3600

    clock.advance(3600)

    assert given.lanes.charged() == {A: REFUSED}


def test_lane_that_nothing_stands_in_the_way_of_is_behind(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(), A)
    assert given.lanes.is_behind()

    given.start()

    assert not given.lanes.is_behind()


# What is forgotten


def test_idle_lane_is_forgotten_after_a_day(clock: FakeClock) -> None:
    lanes = lanes_of(clock, QueueSettings(), A, B, C)
    look(lanes, A, None)
    look(lanes, C, None)
    clock.advance(86_401)

    lanes.forget_idle()

    assert {lane for queue in lanes.states() for lane in queue.lanes} == {B}
    assert lanes.state_of("other") is None


def test_lane_is_not_forgotten_during_an_attempt(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(concurrency=1), A)
    given.start()
    look(given.lanes, A, None)
    clock.advance(86_401)

    given.lanes.forget_idle()
    given.end(A)

    given.lanes.add_waiting(A, NOW)
    assert given.start() == {A: 1}


def test_queue_that_owes_tokens_is_not_forgotten(clock: FakeClock) -> None:
    given = Given(clock, QueueSettings(rate=1e-6), A)
    given.start()
    given.end(A)
    look(given.lanes, A, None)
    clock.advance(86_401)

    given.lanes.forget_idle()

    given.lanes.add_waiting(A, NOW)
    assert given.start() == {}
