"""Lanes against a model that computes everything from scratch.

The model has each task, and counts over all of them what ``Lanes`` keeps incrementally: it finds
a due task that no limit delays but that ``Lanes`` has forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from poussetaches.core.moment import DAY, SECOND, Moment, later
from poussetaches.core.queue import Lane, Queue, QueueOverrides, QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.limits import reached, room_in
from poussetaches.engine.origins import Origins
from poussetaches.engine.queue_registry import Queues
from tests.effort import examples
from tests.factories import make_queue
from tests.fakes import FakeClock

NAMES = ["one", "two"]
ORIGINS = ["http://a.test:80", "http://b.test:80"]
BEFORE = 1e-3  # seconds; nothing may start so long before the time that was told
MOST_OVERTAKEN = 60  # starts of others while one could have started; there are 12 lanes

names = st.sampled_from(NAMES)
origins = st.sampled_from(ORIGINS)
lanes = st.builds(Lane, names, st.sampled_from([*ORIGINS, ""]), st.booleans())
overrides = st.builds(
    QueueOverrides,
    rate=st.none() | st.sampled_from([0.1, 1.0, 7.3]),
    burst=st.none() | st.integers(1, 3),
    concurrency=st.none() | st.integers(1, 9),
    origin_concurrency=st.none() | st.integers(1, 4),
    base_url=st.none() | origins,
)


class LanesMachine(RuleBasedStateMachine):
    """Lanes, used by a dispatcher, a store, a prober and users in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.queues = Queues(QueueSettings(), original_retry=RetryPolicy())
        self.origins = Origins(hold_for=3600)
        self.lanes = Lanes(self.queues, origins=self.origins, clock=self.clock)
        self.waiting: dict[Lane, list[Moment]] = {}
        self.used_at: dict[Lane, Moment] = {}
        self.in_flight: list[tuple[Lane, str]] = []
        self.asked: dict[tuple[str, str], float] = {}
        self.server_paused = False
        self.overtaken: Counter[Lane] = Counter()
        self.max_in_flight = 256

    @initialize(most=st.sampled_from([1, 3, 6, 256]), queues=st.lists(st.tuples(names, overrides)))
    def begin(self, most: int, queues: list[tuple[str, QueueOverrides]]) -> None:
        self.max_in_flight = most
        for name, given in queues:
            self._put(Queue(name=name, overrides=given))

    # What happens

    @rule(
        into=st.lists(lanes, min_size=1, max_size=4),
        delay=st.sampled_from([0.0, 0.0, 0.0, 0.5, 30.0]),
        count=st.integers(1, 9),
    )
    def push(self, into: list[Lane], delay: float, count: int) -> None:
        for lane in into * count:
            self._push(lane, later(self.clock.now(), delay))
        self.settle()

    @rule(lane=lanes, other=lanes, base_url=origins, event=st.integers(0, 4))
    def push_and_have_something_happen_during_the_look(
        self, lane: Lane, other: Lane, base_url: str, event: int
    ) -> None:
        self._push(lane, self.clock.now())
        events: list[Callable[[], None]] = [
            lambda: self._push(other, self.clock.now()),
            lambda: self._end(0, "answered"),
            lambda: self._change(other.queue, base_url=base_url),
            lambda: self._change(other.queue, concurrency=1),
            lambda: self._pause(other.queue, paused=True),
        ]
        self.settle(events[event])

    @precondition(lambda self: self.in_flight)
    @rule(
        places=st.lists(st.integers(0, 20), min_size=1, max_size=6),
        how=st.sampled_from(["answered"] * 4 + ["asked to wait", "refused"]),
    )
    def end(self, places: list[int], how: str) -> None:
        for place in places:
            if self.in_flight:
                self._end(place % len(self.in_flight), how)
        self.settle()

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 9.9, 40.0]))
    def pass_time(self, seconds: float) -> None:
        """Wake up whenever it was asked for, and see that nothing could start before."""
        end = self.clock.monotonic() + seconds
        while (now := self.clock.monotonic()) < end:
            wake_at = self.lanes.wake_at()
            until = end if wake_at is None else min(end, wake_at)
            if until - BEFORE > now:
                self.clock.advance(until - BEFORE - now)
                assert self.startable_lanes() == set()
            self.clock.advance(max(until - self.clock.monotonic(), 1 / SECOND))
            self.settle()

    @rule(name=names, given=overrides)
    def put_queue(self, name: str, given: QueueOverrides) -> None:
        self._put(make_queue(name, paused=self.queues.is_paused(name)), given)
        self.settle()

    @rule(name=names, paused=st.sampled_from([True, False, False]))
    def pause_queue(self, name: str, paused: bool) -> None:
        self._pause(name, paused=paused)
        self.settle()

    @rule(paused=st.sampled_from([True, False, False]))
    def pause_server(self, paused: bool) -> None:
        self.server_paused = paused
        self.lanes.pause(paused)
        self.settle()

    @rule(connects=st.sampled_from([True, True, False]))
    def probe(self, connects: bool) -> None:
        now = self.clock.monotonic()
        for origin in self.origins.begin_probes(now):
            self.origins.probed(origin, None if connects else "refused", now)
        self.settle()

    @rule(lane=lanes)
    def delete(self, lane: Lane) -> None:
        """Change it without a report."""
        self.waiting.pop(lane, None)

    @rule(what=st.integers(1, 7), lane=lanes)
    def have_something_rare_happen(self, what: int, lane: Lane) -> None:
        if what == 1 and not any(self.waiting[k] for k in self.waiting if k.queue == lane.queue):
            self.queues.update({lane.queue: None})
            self.lanes.queue_changed(lane.queue)
        elif what == 2:
            # Far beyond a day: jumps of the clock must not undo what was forgotten.
            self.clock.advance(2 * 86_400)
            self.lanes.forget_idle()
        elif what == 3:
            self.lanes.forget_idle()
        else:
            self.clock.jump([-100.0, -1.0, 20.0, 100.0][what - 4])
        self.settle()

    # What must hold

    @invariant()
    def attempts_on_the_wire_are_counted_right(self) -> None:
        by_queue = Counter(lane.queue for lane, _ in self.in_flight)
        by_share = Counter((lane.queue, origin) for lane, origin in self.in_flight)
        for queue in self.lanes.states():
            assert queue.in_flight == by_queue.pop(queue.name, 0)
            for share in queue.shares.values():
                assert share.in_flight == by_share.pop((queue.name, share.origin), 0)
        assert not +by_queue
        assert not +by_share

    @invariant()
    def lane_has_room_exactly_if_no_reason_to_wait_is_returned(self) -> None:
        limits = self.lanes.limits
        for queue in self.lanes.states():
            for state in queue.due_states():
                found = [
                    *limits.of_pauses(state.lane),
                    *limits.of_queue(queue),
                    *limits.of_share(queue, state.share),
                    *limits.of_origin(state.share.origin),
                ]
                room = min(self._rooms(state.lane).values())
                assert max(0, room_in(found)) == max(0, room)
                assert (room > 0) == (reached(found) == [])

    @invariant()
    def nothing_is_called_behind_while_the_dispatcher_keeps_up(self) -> None:
        assert self.room <= 0 or not self.lanes.is_behind()

    @property
    def room(self) -> int:
        return self.max_in_flight - len(self.in_flight)

    def settle(self, during: Callable[[], None] | None = None) -> None:
        """Start all that may start, as the dispatcher does."""
        could = self.startable_lanes()
        started: list[Lane] = []
        while wanted := self._look():
            self.lanes.begin_lookup(wanted)
            leased, next_due = self._lease(wanted)
            if during is not None:
                during()
                during = None
            for lane in wanted:
                self.lanes.end_lookup(lane, next_due[lane])
            for lane, run_at in leased:
                self._start(lane, run_at)
            started += [lane for lane, _ in leased]
        for lane in self.lanes.charged():
            self._charge(lane)
        assert self.startable_lanes() == set()
        self._note_overtaking(could, started)

    def startable_lanes(self) -> set[Lane]:
        """Return the lanes with a due task that no limit delays."""
        if self.room <= 0:
            return set()
        return {lane for lane in self.due_lanes() if self._lane_room(lane) > 0}

    def due_lanes(self) -> set[Lane]:
        now = self.clock.now()
        return {lane for lane, tasks in self.waiting.items() if tasks and min(tasks) <= now}

    # How it is worked out

    def _look(self) -> dict[Lane, int]:
        """Ask who may start; see that no limit is passed, and that no room is left unused."""
        room = self.room
        due = self.due_lanes()
        rooms = {lane: self._rooms(lane, whole_tokens=True) for lane in due}
        wanted = self.lanes.startable(room)
        assert sum(wanted.values()) <= max(0, room)
        taken: Counter[object] = Counter()
        for lane, count in wanted.items():
            for limit, most in self._rooms(lane).items():
                taken[limit] += count
                assert taken[limit] <= most, (lane, limit)
        left = [
            lane
            for lane, limits in rooms.items()
            if min(most - taken[limit] for limit, most in limits.items()) > 0
        ]
        assert not left or sum(wanted.values()) == room, left
        for name in {lane.queue for lane in left}:
            self._see_that_parts_are_left(name, wanted, left, room)
        return wanted

    def _see_that_parts_are_left(
        self, name: str, wanted: dict[Lane, int], left: list[Lane], room: int
    ) -> None:
        """See that no origin takes over its even part while one that has room holds less."""
        origin_of, state = self.queues.origin_of, self.lanes.state_of(name)
        assert state is not None
        holding = Counter(where for lane, where in self.in_flight if lane.queue == name)
        slots = min(self.queues.settings_of(name).concurrency, holding.total() + room)
        taking = Counter(
            origin_of(lane) for lane in Counter(wanted).elements() if lane.queue == name
        )
        holding += taking
        in_line = [lane for lane in left if lane.queue == name]  # all the time
        least, most = slots / sum(1 for _ in state.due_states()), -(-slots // len(in_line))
        if any(holding[origin_of(lane)] < least for lane in in_line):
            assert all(holding[origin] <= most for origin in taking)

    def _lane_room(self, lane: Lane) -> int:
        return min(self._rooms(lane, whole_tokens=True).values())

    def _rooms(self, lane: Lane, *, whole_tokens: bool = False) -> dict[object, int]:
        """Return what each limit leaves for attempts of a lane.

        A token that is short by a rounding error may be used, but ``wake_at`` waits for the whole.
        """
        settings, origin = self.queues.settings_of(lane.queue), self.queues.origin_of(lane)
        paused = not lane.forced and (self.server_paused or self.queues.is_paused(lane.queue))
        held = self.origins.is_held(origin)
        asked = self.asked.get((lane.queue, origin), 0.0) > self.clock.monotonic()
        of_queue = [where for known, where in self.in_flight if known.queue == lane.queue]
        rooms: dict[object, int] = {
            lane.queue: settings.concurrency - len(of_queue),
            (lane.queue, origin): self._cap(lane.queue, origin) - of_queue.count(origin),
            origin: self.origins.slots(origin) - self.origins.in_flight(origin),
            "lane": 0 if paused or held or asked else 1_000_000,
        }
        state = self.lanes.state_of(lane.queue)
        bucket = None if state is None else self.lanes.limits.buckets.of(lane.queue)
        if bucket is not None:
            rooms[lane.queue, "rate"] = int(bucket.tokens) if whole_tokens else bucket.available
        return rooms

    def _cap(self, queue: str, origin: str) -> int:
        settings = self.queues.settings_of(queue)
        if not origin:
            return settings.concurrency
        if settings.origin_concurrency is not None:
            return settings.origin_concurrency
        since = self.clock.now() - DAY
        used = {
            self.queues.origin_of(lane)
            for lane, used_at in self.used_at.items()
            if lane.queue == queue and used_at >= since
        }
        used |= {where for lane, where in self.in_flight if lane.queue == queue}
        if used <= {origin}:
            return settings.concurrency
        return max(1, settings.concurrency * 3 // 4)

    def _lease(
        self, wanted: dict[Lane, int]
    ) -> tuple[list[tuple[Lane, Moment]], dict[Lane, Moment | None]]:
        now, leased = self.clock.now(), []
        for lane, count in wanted.items():
            tasks = sorted(self.waiting.get(lane, []))
            due = [run_at for run_at in tasks if run_at <= now][:count]
            self.waiting[lane] = tasks[len(due) :]
            leased += [(lane, run_at) for run_at in due]
        return leased, {lane: min(self.waiting[lane], default=None) for lane in wanted}

    def _charge(self, lane: Lane) -> None:
        """Fail the due tasks of a lane without sending them."""
        self.lanes.begin_lookup([lane])
        leased, next_due = self._lease({lane: 1_000_000})
        self.lanes.end_lookup(lane, next_due[lane])
        for _ in leased:
            self._push(lane, later(self.clock.now(), 30))

    def _start(self, lane: Lane, run_at: Moment) -> None:
        if self.lanes.limits.of_pauses(lane):
            self._push(lane, run_at)
            return
        origin = self.lanes.start_attempt(lane)
        assert origin == self.queues.origin_of(lane)
        self.in_flight.append((lane, origin))

    def _push(self, lane: Lane, run_at: Moment) -> None:
        self.waiting.setdefault(lane, []).append(run_at)
        self.used_at[lane] = self.clock.now()
        self.lanes.add_waiting(lane, run_at)

    def _end(self, place: int, how: str) -> None:
        if place >= len(self.in_flight):
            return
        lane, origin = self.in_flight.pop(place)
        self.lanes.end_attempt(lane, origin)
        now = self.clock.monotonic()
        if how == "refused":
            self.origins.refused(origin, "refused", now)
            self._push(lane, self.clock.now())
            return
        self.origins.answered(origin)
        if how == "asked to wait":
            self.lanes.asked_to_wait(lane.queue, origin, until=now + 5)
            self.asked[lane.queue, origin] = max(self.asked.get((lane.queue, origin), 0), now + 5)
            self._push(lane, later(self.clock.now(), 5))

    def _change(self, name: str, **changes: object) -> None:
        queue = self.queues.get(name) or Queue(name=name)
        self._put(queue, msgspec.structs.replace(queue.overrides, **changes))

    def _pause(self, name: str, *, paused: bool) -> None:
        self._put(
            msgspec.structs.replace(self.queues.get(name) or Queue(name=name), paused=paused)
        )

    def _put(self, queue: Queue, overrides: QueueOverrides | None = None) -> None:
        if overrides is not None:
            queue = msgspec.structs.replace(queue, overrides=overrides)
        self.queues.update({queue.name: queue})
        self.lanes.queue_changed(queue.name)

    def _note_overtaking(self, could: set[Lane], started: list[Lane]) -> None:
        """Check that no lane that could start, without slots in use, waits for too many others."""
        for lane in list(self.overtaken):
            if lane not in could or lane in started:
                del self.overtaken[lane]
        holding = {(lane.queue, where) for lane, where in self.in_flight}
        for lane in could - set(started):
            if (lane.queue, self.queues.origin_of(lane)) in holding:
                continue
            self.overtaken[lane] += len(started)
            assert self.overtaken[lane] <= MOST_OVERTAKEN, lane


LanesMachine.TestCase.settings = settings(max_examples=examples(100), stateful_step_count=60)
test_lanes_do_what_a_model_does = LanesMachine.TestCase
