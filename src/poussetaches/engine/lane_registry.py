"""``LaneRegistry``: all known lanes, and the origins that they lead to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane
from poussetaches.engine.clock import Clock
from poussetaches.engine.lane_state import LaneState, QueueState, Share
from poussetaches.engine.queue_registry import Queues


class LaneRegistry:
    """Keeps the state of each lane, by queue and by origin."""

    def __init__(self, settings: Queues, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self.queues: dict[str, QueueState] = {}
        self._by_origin: dict[str, dict[Lane, LaneState]] = {}  # of all queues

    def find(self, lane: Lane) -> LaneState | None:
        """Return the state of a lane; None if it is unknown."""
        queue = self.queues.get(lane.queue)
        return None if queue is None else queue.lanes.get(lane)

    def add(self, lane: Lane) -> LaneState:
        """Return the state of a lane, which is created if it is unknown."""
        queue = self.queues.get(lane.queue)
        if queue is None:
            queue = self.queues[lane.queue] = QueueState(lane.queue)
        state = queue.lanes.get(lane)
        if state is None:
            share = queue.share_of(self._settings.origin_of(lane))
            state = queue.lanes[lane] = LaneState(lane, share, self._clock.now())
            self._join(state)
        return state

    def redirect(self, queue: QueueState) -> None:
        """Move the lanes of a queue to the origins that they lead to now."""
        for state in queue.lanes.values():
            share = queue.share_of(self._settings.origin_of(state.lane))
            if share is not state.share:
                self._leave(state)
                state.share = share
                self._join(state)

    def leading_to(self, origin: str) -> Iterable[LaneState]:
        """Return the lanes of all queues that lead to an origin."""
        return self._by_origin.get(origin, {}).values()

    def set_aside(self) -> Iterator[LaneState]:
        """Yield the lanes of all queues that are set aside."""
        for queue in self.queues.values():
            yield from queue.aside.values()

    def forget_unused(self, since: Moment) -> None:
        """Forget the origins of each queue that had no task since a moment, and their lanes."""
        for queue in self.queues.values():
            for share in list(queue.shares.values()):
                if self._is_unused(share, since):
                    self._forget(queue, share)

    def _join(self, state: LaneState) -> None:
        state.share.lanes[state.lane] = state
        self._by_origin.setdefault(state.share.origin, {})[state.lane] = state

    def _leave(self, state: LaneState) -> None:
        origin = state.share.origin
        del state.share.lanes[state.lane]
        del self._by_origin[origin][state.lane]
        if not self._by_origin[origin]:
            del self._by_origin[origin]

    def _is_unused(self, share: Share, since: Moment) -> bool:
        return (
            not share.was_used_since(since)
            and share.asked_to_wait_until <= self._clock.monotonic()
            and all(state.next_due is None for state in share.lanes.values())
        )

    def _forget(self, queue: QueueState, share: Share) -> None:
        for state in list(share.lanes.values()):
            self._leave(state)
            del queue.lanes[state.lane]
        del queue.shares[share.origin]
