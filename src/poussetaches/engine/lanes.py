"""Who may start attempts now: due lanes, slots, rates, and turns.

A lane is known from the moment a task waits in it. ``next_due`` is never later than the truth:
it may be too early (a task was deleted), which costs one look at the store and is then put right.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from poussetaches.core.moment import DAY, Moment, seconds_between
from poussetaches.core.queue import Lane, QueueSettings, TokenBucket
from poussetaches.engine.clock import Clock
from poussetaches.engine.origins import Origins

SMALL = 64  # entries; not worth tidying up below


@dataclass(slots=True, eq=False)
class LaneState:
    """What is known of one lane."""

    lane: Lane
    used_at: Moment
    next_due: Moment | None = None
    heard_of: Moment | None = None  # the earliest task since the look under way began
    in_flight: int = 0
    asked_to_wait_until: float = 0.0  # monotonic


@dataclass(slots=True, eq=False)
class QueueState:
    """What is known of one queue: its lanes, and those of them that are due, in turn."""

    name: str
    lanes: dict[Lane, LaneState] = field(default_factory=dict)
    due: OrderedDict[Lane, LaneState] = field(default_factory=OrderedDict)
    in_flight: int = 0
    bucket: TokenBucket | None = None


class Lanes:
    """The lanes of all queues, and how many attempts each may start."""

    def __init__(
        self, settings_of: Callable[[str], QueueSettings], *, origins: Origins, clock: Clock
    ) -> None:
        self._settings_of = settings_of
        self._origins = origins
        self._clock = clock
        self._queues: dict[str, QueueState] = {}
        self._due: OrderedDict[str, QueueState] = OrderedDict()
        # Lanes by when they are due; an entry that its lane no longer agrees with is void.
        self._later: list[tuple[Moment, Lane]] = []
        self._later_limit = SMALL
        self._on_wire: Counter[str] = Counter()

    # What is learnt

    def used(self, lane: Lane, used_at: Moment) -> None:
        """Note that a lane had a task lately."""
        state = self._state(lane)
        state.used_at = max(state.used_at, used_at)

    def waits(self, lane: Lane, run_at: Moment) -> None:
        """Note that a task of a lane waits from a moment on."""
        state = self._state(lane)
        state.used_at = self._clock.now()
        state.heard_of = run_at if state.heard_of is None else min(state.heard_of, run_at)
        if state.next_due is None or run_at < state.next_due:
            self._expect(state, run_at)

    def looking(self, lanes: Iterable[Lane]) -> None:
        """Note that the store is being asked about lanes."""
        for lane in lanes:
            self._state(lane).heard_of = None

    def looked(self, lane: Lane, next_due: Moment | None) -> None:
        """Note what the store said of a lane."""
        state = self._state(lane)
        queue = self._queues[lane.queue]
        queue.due.pop(lane, None)
        if not queue.due:
            self._due.pop(lane.queue, None)
        state.next_due = None
        # A task that was added during the look may or may not have been seen by it.
        times = [time for time in (next_due, state.heard_of) if time is not None]
        if times:
            self._expect(state, min(times))

    def started(self, lane: Lane) -> None:
        """Take a slot and a token for an attempt."""
        state, queue = self._state(lane), self._queues[lane.queue]
        state.in_flight += 1
        queue.in_flight += 1
        self._on_wire[lane.origin] += 1
        bucket = self._bucket(queue)
        if bucket is not None:
            queue.bucket = bucket.taken(1)

    def ended(self, lane: Lane) -> None:
        """Free the slot of an attempt."""
        self._state(lane).in_flight -= 1
        self._queues[lane.queue].in_flight -= 1
        self._on_wire[lane.origin] -= 1
        if not self._on_wire[lane.origin]:
            del self._on_wire[lane.origin]

    def asked_to_wait(self, lane: Lane, until: float) -> None:
        """Leave a lane alone until a monotonic time, as its receiver asked."""
        state = self._state(lane)
        state.asked_to_wait_until = max(state.asked_to_wait_until, until)

    # What follows

    def was_due(self, lane: Lane, moment: Moment) -> bool:
        """Tell whether a lane had a due task at a moment, for all that is known."""
        next_due = self._state(lane).next_due
        return next_due is not None and next_due <= moment

    def startable(self, room: int) -> dict[Lane, int]:
        """Return how many attempts each lane may start now, at most ``room`` in all.

        Queues take turns, and within a queue its lanes do.
        """
        self._move_due()
        wanted: dict[Lane, int] = {}
        slots: dict[str, int] = {}  # of origins: all queues share them
        shares = [(queue, self._shares(queue, slots)) for queue in list(self._due.values())]
        while room > 0 and shares:
            going_on = []
            for queue, turns in shares:
                lane = next(turns, None) if room > 0 else None
                if lane is None:
                    continue
                wanted[lane] = wanted.get(lane, 0) + 1
                room -= 1
                self._due.move_to_end(queue.name)
                going_on.append((queue, turns))
            shares = going_on
        return wanted

    def charged(self) -> dict[Lane, str]:
        """Return the due lanes whose tasks are charged without being sent, with the error."""
        now = self._clock.monotonic()
        found = {}
        for queue in self._due.values():
            for lane in queue.due:
                error = self._origins.charged_error(lane.origin, now)
                if error is not None:
                    found[lane] = error
        return found

    def wake_at(self) -> float | None:
        """Return the monotonic time of the next change that time alone brings."""
        times = [time for queue in self._due.values() for time in self._opens_at(queue)]
        while self._later and not self._is_valid(self._later[0]):
            heapq.heappop(self._later)
        if self._later:
            wait = seconds_between(self._clock.now(), self._later[0][0])
            times.append(self._clock.monotonic() + max(0.0, wait))
        return min(times, default=None)

    def overdue_since(self) -> Moment | None:
        """Return since when a task is due that nothing stands in the way of; None for none."""
        times = [
            state.next_due
            for queue in self._due.values()
            if self._queue_room(queue) > 0
            for state in queue.due.values()
            if state.next_due is not None and self._lane_room(queue, state) > 0
        ]
        return min(times, default=None)

    def forget_idle(self) -> None:
        """Forget lanes that had no task for a day, and what is left without lanes."""
        since = self._clock.now() - DAY
        for queue in list(self._queues.values()):
            for state in list(queue.lanes.values()):
                if state.next_due is None and not state.in_flight and state.used_at < since:
                    del queue.lanes[state.lane]
            if not queue.lanes:
                del self._queues[queue.name]
        lanes = (lane for queue in self._queues.values() for lane in queue.lanes)
        self._origins.forget_all_but({lane.origin for lane in lanes})

    # How it is worked out

    def _state(self, lane: Lane) -> LaneState:
        queue = self._queues.get(lane.queue)
        if queue is None:
            queue = self._queues[lane.queue] = QueueState(lane.queue)
        state = queue.lanes.get(lane)
        if state is None:
            state = queue.lanes[lane] = LaneState(lane, self._clock.now())
        return state

    def _expect(self, state: LaneState, run_at: Moment) -> None:
        state.next_due = run_at
        if run_at <= self._clock.now():
            self._make_due(state)
        else:
            heapq.heappush(self._later, (run_at, state.lane))
            if len(self._later) > self._later_limit:
                self._drop_void()

    def _drop_void(self) -> None:
        """Keep one entry for each lane: a lane that is looked at often makes many."""
        self._later = list({entry for entry in self._later if self._is_valid(entry)})
        heapq.heapify(self._later)
        self._later_limit = 2 * len(self._later) + SMALL

    def _make_due(self, state: LaneState) -> None:
        queue = self._queues[state.lane.queue]
        queue.due.setdefault(state.lane, state)
        self._due.setdefault(queue.name, queue)

    def _move_due(self) -> None:
        now = self._clock.now()
        while self._later and self._later[0][0] <= now:
            entry = heapq.heappop(self._later)
            if self._is_valid(entry):
                lane = entry[1]
                self._make_due(self._queues[lane.queue].lanes[lane])

    def _is_valid(self, entry: tuple[Moment, Lane]) -> bool:
        run_at, lane = entry
        queue = self._queues.get(lane.queue)
        if queue is None or lane not in queue.lanes:
            return False
        return queue.lanes[lane].next_due == run_at and lane not in queue.due

    def _shares(self, queue: QueueState, slots: dict[str, int]) -> Iterator[Lane]:
        """Yield lanes of a queue in turn, once for each attempt that may start.

        ``slots`` are those left of each origin that has come up.
        """
        left = self._queue_room(queue)
        rooms = {lane: self._lane_room(queue, state) for lane, state in list(queue.due.items())}
        while left > 0 and rooms:
            for lane in list(rooms):
                origin = lane.origin
                free = slots.setdefault(
                    origin, self._origins.slots(origin) - self._on_wire[origin]
                )
                if rooms[lane] <= 0 or free <= 0:
                    del rooms[lane]
                    continue
                if left == 0:
                    return
                left -= 1
                rooms[lane] -= 1
                slots[origin] -= 1
                queue.due.move_to_end(lane)
                yield lane

    def _queue_room(self, queue: QueueState) -> int:
        room = self._settings_of(queue.name).concurrency - queue.in_flight
        bucket = self._bucket(queue)
        return room if bucket is None else min(room, bucket.available)

    def _lane_room(self, queue: QueueState, state: LaneState) -> int:
        origin = state.lane.origin
        if self._origins.is_held(origin):
            return 0
        if state.asked_to_wait_until > self._clock.monotonic():
            return 0
        cap = self._origin_cap(queue, state)
        return min(cap - state.in_flight, self._origins.slots(origin) - self._on_wire[origin])

    def _origin_cap(self, queue: QueueState, state: LaneState) -> int:
        settings = self._settings_of(queue.name)
        if settings.origin_concurrency is not None:
            return settings.origin_concurrency
        if self._is_alone(queue, state):
            return settings.concurrency
        return max(1, settings.concurrency * 3 // 4)

    def _is_alone(self, queue: QueueState, state: LaneState) -> bool:
        """Tell whether no other lane of the queue had a task in the last day."""
        if len(queue.lanes) == 1:
            return True
        since = self._clock.now() - DAY
        return all(
            other is state or (other.used_at < since and not other.in_flight)
            for other in queue.lanes.values()
        )

    def _bucket(self, queue: QueueState) -> TokenBucket | None:
        settings = self._settings_of(queue.name)
        if settings.rate is None:
            return None
        now = self._clock.monotonic()
        if queue.bucket is None:
            queue.bucket = TokenBucket.full(settings.rate, settings.burst, now)
        queue.bucket = queue.bucket.refilled(now)
        return queue.bucket

    def _opens_at(self, queue: QueueState) -> Iterator[float]:
        """Yield when time alone opens what is due in a queue."""
        now = self._clock.monotonic()
        bucket = self._bucket(queue)
        if bucket is not None and bucket.available == 0:
            yield now + bucket.wait
            return
        for lane, state in queue.due.items():
            if state.asked_to_wait_until > now:
                yield state.asked_to_wait_until
            charges_at = self._origins.charges_at(lane.origin)
            if charges_at is not None:
                yield charges_at
