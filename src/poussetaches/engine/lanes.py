"""``Lanes``: which lanes may start attempts now, and in which order they take turns.

A lane is known as soon as a task waits in it. ``next_due`` is never too late. It may be too early
(a task was deleted), which costs one query of the store and is then corrected.

A due lane without room is set aside in its turn, and a queue without room is skipped. They
come back when they may have room again: an attempt ended, a time was reached, an origin was
released, a pause ended, or a queue was changed.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import count

from poussetaches.core.moment import DAY, Moment, seconds_between
from poussetaches.core.queue import Lane
from poussetaches.engine.clock import Clock
from poussetaches.engine.lane_registry import LaneRegistry
from poussetaches.engine.lane_state import LaneState, QueueState
from poussetaches.engine.limits import Limits
from poussetaches.engine.origins import Origins
from poussetaches.engine.queue_registry import Queues
from poussetaches.engine.room_budget import RoomBudget

SMALL = 64  # entries; fewer are not worth a cleanup


class Lanes:
    """The lanes of all queues, and how many attempts each may start."""

    def __init__(self, queues: Queues, *, origins: Origins, clock: Clock) -> None:
        self.limits = Limits(queues, origins=origins, clock=clock)
        self._origins = origins
        self._clock = clock
        self._registry = LaneRegistry(queues, clock)
        self._queues = self._registry.queues
        self._due: OrderedDict[str, QueueState] = OrderedDict()  # queues that may have room
        self._turns = count(1)
        # Lanes by when they are due; an entry that its lane no longer agrees with is void.
        self._later: list[tuple[Moment, Lane]] = []
        self._later_limit = SMALL
        # Queues, and shares of them (else None) by their origin, by when they have room again.
        self._openings: list[tuple[float, int, str, str | None]] = []
        self._order = count()

    def record_use(self, lane: Lane, used_at: Moment) -> None:
        """Record that a lane had a task at a moment."""
        state = self._registry.add(lane)
        state.used_at = max(state.used_at, used_at)

    def add_waiting(self, lane: Lane, run_at: Moment) -> None:
        """Record a waiting task of a lane, and when it is due."""
        state = self._registry.add(lane)
        state.used_at = self._clock.now()
        state.added_due = run_at if state.added_due is None else min(state.added_due, run_at)
        if state.next_due is None or run_at < state.next_due:
            self._expect(state, run_at)

    def begin_lookup(self, lanes: Iterable[Lane]) -> None:
        """Record that the store is queried about lanes."""
        for lane in lanes:
            self._registry.add(lane).added_due = None

    def end_lookup(self, lane: Lane, next_due: Moment | None) -> None:
        """Record when the next task of a lane is due, as the store answered."""
        state = self._registry.add(lane)
        queue = self._queues[lane.queue]
        queue.due.pop(lane, None)
        queue.aside.pop(lane, None)
        if not queue.due:
            self._due.pop(lane.queue, None)
        state.next_due = None
        # The answer may or may not include a task that was added meanwhile.
        times = [time for time in (next_due, state.added_due) if time is not None]
        if times:
            self._expect(state, min(times))

    def start_attempt(self, lane: Lane) -> str:
        """Take slots and a token for an attempt; return the origin that it goes to."""
        queue, share = self._queues[lane.queue], self._registry.add(lane).share
        queue.in_flight += 1
        share.in_flight += 1
        self._origins.started(share.origin)
        self.limits.buckets.take(lane.queue)
        return share.origin

    def end_attempt(self, lane: Lane, origin: str) -> None:
        """Free the slots of an attempt that went to an origin."""
        queue = self._queues[lane.queue]
        share = queue.shares[origin]
        queue.in_flight -= 1
        share.in_flight -= 1
        self._origins.ended(origin)
        # First all lanes that wait for the last slot of an origin, in any queue.
        self._bring_back_opened()
        # A share that no lane leads to any more leaves its slots to the others.
        if queue.aside:
            self._bring_back((share.lanes or queue.aside).values())
        self._open(queue)

    def asked_to_wait(self, queue: str, origin: str, *, until: float) -> None:
        """Start no attempts of a queue to an origin until a monotonic time."""
        state = self._queues[queue]
        share = state.share_of(origin)
        if until > share.asked_to_wait_until:
            share.asked_to_wait_until = until
            self._plan(until, state, origin)

    def pause(self, paused: bool) -> None:
        """Pause or resume all lanes except those of tasks that were told to run."""
        self.limits.server_paused = paused
        self._bring_back(self._registry.set_aside())

    def queue_changed(self, name: str) -> None:
        """Apply the changed settings, pause and base URL of a queue."""
        queue = self._queues.get(name)
        if queue is None:
            return
        self._registry.redirect(queue)
        self._bring_back(queue.aside.values())
        self._open(queue)

    def state_of(self, queue: str) -> QueueState | None:
        """Return the state of a queue; None if it has no lanes."""
        return self._queues.get(queue)

    def states(self) -> Iterator[QueueState]:
        """Yield the state of each queue."""
        yield from self._queues.values()

    def due_lanes(self) -> list[Lane]:
        """Return the lanes that are known to have a due task."""
        return [state.lane for queue in self._queues.values() for state in queue.due_states()]

    def was_due(self, lane: Lane, moment: Moment) -> bool:
        """Return whether a lane is known to have had a due task at a moment."""
        next_due = self._registry.add(lane).next_due
        return next_due is not None and next_due <= moment

    def startable(self, room: int) -> dict[Lane, int]:
        """Return how many attempts each lane may start now, at most ``room`` in all.

        Queues take turns, and within a queue its lanes do; but an origin that holds its even
        part of a queue's slots waits while one that holds less has something due.
        """
        self._catch_up()
        if not self._due:
            return {}
        budget = RoomBudget(self.limits, server_room=room)
        wanted: dict[Lane, int] = {}
        while room > 0 and self._due:
            queue = next(iter(self._due.values()))
            state = self._next_turn(queue, budget)
            if state is None:
                del self._due[queue.name]
                self._plan_opening(queue)
                continue
            count = 1
            if len(self._due) == 1 and len(queue.due) == 1:  # no other lane takes turns
                count = min(room, budget.queue_room(queue), budget.lane_room(queue, state))
            budget.promise(queue, state, count)
            wanted[state.lane] = wanted.get(state.lane, 0) + count
            room -= count
            self._due.move_to_end(queue.name)
        # They had room before, and still have it if fewer tasks are found than promised.
        self._bring_back(budget.passed_over)
        for queue in budget.promised_to.values():
            self._open(queue)
        return wanted

    def charged(self) -> dict[Lane, str]:
        """Return the due lanes whose tasks are charged without being sent, with the error."""
        now = self._clock.monotonic()
        found: dict[Lane, str] = {}
        for origin, charges_at in self._origins.charges():
            if charges_at > now:
                break
            error = self._origins.charged_error(origin, now) or ""
            found |= {state.lane: error for state in self._due_leading_to(origin)}
        return found

    def wake_at(self) -> float | None:
        """Return the monotonic time at which the next lane becomes due or has room again."""
        times = []
        for origin, charges_at in self._origins.charges():
            if any(self._due_leading_to(origin)):
                times.append(charges_at)
                break
        while self._later and not self._is_valid(self._later[0]):
            heapq.heappop(self._later)
        if self._later:
            wait = seconds_between(self._clock.now(), self._later[0][0])
            times.append(self._clock.monotonic() + max(0.0, wait))
        if self._openings:
            times.append(self._openings[0][0])
        return min(times, default=None)

    def is_behind(self) -> bool:
        """Return whether a due task could be started: no limit of its lane is reached."""
        if not self._due:
            return False
        budget = RoomBudget(self.limits, server_room=1)
        return any(
            budget.queue_room(queue) > 0
            and any(budget.lane_room(queue, state) > 0 for state in queue.due.values())
            for queue in self._due.values()
        )

    def forget_idle(self) -> None:
        """Forget origins that a queue had no task for in a day, and queues that have none."""
        self._registry.forget_unused(Moment(self._clock.now() - DAY))
        buckets = self.limits.buckets
        for queue in list(self._queues.values()):
            if not queue.shares and buckets.is_full(queue.name):
                del self._queues[queue.name]
                buckets.forget(queue.name)
        # The remaining origins may have more room now.
        self._bring_back(self._registry.set_aside())
        self._origins.forget_all_but(
            {origin for queue in self._queues.values() for origin in queue.shares}
        )

    def _expect(self, state: LaneState, run_at: Moment) -> None:
        state.next_due = run_at
        if run_at <= self._clock.now():
            self._make_due(state)
            return
        heapq.heappush(self._later, (run_at, state.lane))
        if len(self._later) > self._later_limit:
            self._drop_void()

    def _drop_void(self) -> None:
        """Keep one valid entry per lane: a lane that is often looked up makes many."""
        self._later = list({entry for entry in self._later if self._is_valid(entry)})
        heapq.heapify(self._later)
        self._later_limit = 2 * len(self._later) + SMALL

    def _is_valid(self, entry: tuple[Moment, Lane]) -> bool:
        run_at, lane = entry
        state = self._registry.find(lane)
        if state is None:
            return False
        return state.next_due == run_at and not self._queues[lane.queue].is_due(lane)

    def _make_due(self, state: LaneState) -> None:
        queue = self._queues[state.lane.queue]
        if not queue.is_due(state.lane):
            queue.due[state.lane] = state
            self._open(queue)

    def _open(self, queue: QueueState) -> None:
        """Add a queue to the rotation if one of its lanes is due and not set aside."""
        if queue.due:
            self._due.setdefault(queue.name, queue)

    def _catch_up(self) -> None:
        """Add the lanes to the rotation that have become due, or have room again."""
        now = self._clock.now()
        while self._later and self._later[0][0] <= now:
            entry = heapq.heappop(self._later)
            if self._is_valid(entry):
                lane = entry[1]
                self._make_due(self._queues[lane.queue].lanes[lane])
        elapsed = self._clock.monotonic()
        while self._openings and self._openings[0][0] <= elapsed:
            _, _, name, origin = heapq.heappop(self._openings)
            if name in self._queues:
                self._bring_back_to(self._queues[name], origin)
        self._bring_back_opened()

    def _bring_back_to(self, queue: QueueState, origin: str | None) -> None:
        """Return a queue, or only its lanes to one origin, to the rotation."""
        if origin is None:
            queue.opens_at = None
            self._open(queue)
        elif origin in queue.shares:
            self._bring_back(queue.shares[origin].lanes.values())

    def _bring_back_opened(self) -> None:
        """Return all lanes that lead to an origin with a new slot to the rotation."""
        for origin in self._origins.take_opened():
            self._bring_back(self._registry.leading_to(origin))

    def _bring_back(self, states: Iterable[LaneState]) -> None:
        """Return lanes that were set aside to the rotation, the least recently served first.

        Without that order two queues that share the last slot of an origin would not take turns.
        """
        for state in sorted(states, key=lambda state: state.last_turn):
            queue = self._queues[state.lane.queue]
            if queue.aside.pop(state.lane, None) is not None:
                queue.due[state.lane] = state
                self._open(queue)

    def _next_turn(self, queue: QueueState, budget: RoomBudget) -> LaneState | None:
        """Return the lane of a queue that may start the next attempt; None if none may."""
        if budget.queue_room(queue) <= 0:
            return None
        passed = 0  # lanes in a row that hold their even part
        while queue.due:
            lane, state = next(iter(queue.due.items()))
            if budget.lane_room(queue, state) <= 0:
                del queue.due[lane]
                queue.aside[lane] = state
                budget.pass_over(state)
                continue
            queue.due.move_to_end(lane)
            if 1 < len(queue.due) > passed and budget.has_even_part(queue, state):
                passed += 1
                continue
            state.last_turn = next(self._turns)
            return state
        return None

    def _plan_opening(self, queue: QueueState) -> None:
        """Plan when a queue without tokens returns to the rotation."""
        bucket = self.limits.buckets.of(queue.name)
        if bucket is None or bucket.available or not queue.due:
            return
        opens_at = self._clock.monotonic() + bucket.wait
        if queue.opens_at is None or opens_at < queue.opens_at:
            queue.opens_at = opens_at
            self._plan(opens_at, queue, None)

    def _plan(self, opens_at: float, queue: QueueState, origin: str | None) -> None:
        heapq.heappush(self._openings, (opens_at, next(self._order), queue.name, origin))

    def _due_leading_to(self, origin: str) -> Iterator[LaneState]:
        """Yield the lanes of all queues that lead to an origin, are due and not paused."""
        for state in self._registry.leading_to(origin):
            is_due = self._queues[state.lane.queue].is_due(state.lane)
            if is_due and not self.limits.of_pauses(state.lane):
                yield state
