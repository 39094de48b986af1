"""How many attempts may start: pauses, rates, and the slots of queues and origins."""

from __future__ import annotations

from poussetaches.core.moment import DAY, Moment
from poussetaches.core.queue import Lane, TokenBucket
from poussetaches.engine.clock import Clock
from poussetaches.engine.lane_state import LaneState, QueueState, Share
from poussetaches.engine.origins import Origins
from poussetaches.engine.queues import Queues


class Limits:
    """What the settings of queues and the state of origins leave room for at the moment."""

    def __init__(self, queues: Queues, *, origins: Origins, clock: Clock) -> None:
        self._queues = queues
        self._origins = origins
        self._clock = clock
        self.server_paused = False
        self._full_at: dict[str, float] = {}  # monotonic; of queues not used since the start

    def remember(self, queue: str, *, full_at: float) -> None:
        """Restore the bucket of a queue: it is full at a monotonic time, not before."""
        self._full_at[queue] = full_at

    @property
    def remembered(self) -> list[str]:
        """The names of queues with a restored bucket that were not used since the start."""
        return list(self._full_at)

    def full_in(self, name: str, queue: QueueState | None) -> float | None:
        """Return the seconds until the bucket of a queue is full; None if it has no bucket."""
        if name in self._full_at:
            return max(0.0, self._full_at[name] - self._clock.monotonic())
        bucket = None if queue is None else self.bucket(queue)
        return None if bucket is None else bucket.full_in

    def is_paused(self, lane: Lane) -> bool:
        """Tell whether a pause stops a lane; none stops those that were told to run."""
        if lane.forced:
            return False
        return self.server_paused or self._queues.is_paused(lane.queue)

    def slots(self, queue: QueueState) -> int:
        """Return how many attempts of a queue may be on the wire."""
        return self._queues.settings_of(queue.name).concurrency

    def queue_room(self, queue: QueueState) -> int:
        """Return how many attempts a queue may start, wherever they go."""
        room = self.slots(queue) - queue.in_flight
        bucket = self.bucket(queue)
        return room if bucket is None else min(room, bucket.available)

    def share_room(self, queue: QueueState, share: Share) -> int:
        """Return how many attempts a queue may start to one origin, as far as both allow."""
        if self._origins.is_held(share.origin):
            return 0
        if share.asked_to_wait_until > self._clock.monotonic():
            return 0
        return self.share_cap(queue, share) - share.in_flight

    def share_cap(self, queue: QueueState, share: Share) -> int:
        """Return how many slots of a queue one origin may hold."""
        settings = self._queues.settings_of(queue.name)
        if not share.origin:
            return settings.concurrency
        if settings.origin_concurrency is not None:
            return settings.origin_concurrency
        if self._is_alone(queue, share):
            return settings.concurrency
        return max(1, settings.concurrency * 3 // 4)

    def bucket(self, queue: QueueState) -> TokenBucket | None:
        """Return a queue's tokens at this moment; None when its rate is not limited."""
        settings = self._queues.settings_of(queue.name)
        if settings.rate is None:
            queue.bucket = None
            return None
        now, bucket = self._clock.monotonic(), queue.bucket
        if bucket is None:
            full_in = self._full_at.pop(queue.name, now) - now
            bucket = TokenBucket.filling(settings.rate, settings.burst, full_in=full_in, now=now)
        bucket = bucket.refilled(now)
        if (bucket.rate, bucket.burst) != (settings.rate, settings.burst):
            # Tokens are carried over: changing a queue again and again must not beat its rate.
            tokens = min(bucket.tokens, float(settings.burst))
            bucket = TokenBucket(settings.rate, settings.burst, tokens, now)
        queue.bucket = bucket
        return bucket

    def is_rested(self, queue: QueueState) -> bool:
        """Tell whether a queue has all its tokens, so that there is nothing to remember of it."""
        bucket = self.bucket(queue)
        return bucket is None or bucket.tokens >= bucket.burst

    def _is_alone(self, queue: QueueState, share: Share) -> bool:
        """Tell whether no other origin had a task of the queue in the last day."""
        if len(queue.shares) == 1:
            return True
        since = Moment(self._clock.now() - DAY)
        return not any(
            other is not share and other.was_used_since(since) for other in queue.shares.values()
        )


class Look:
    """What is left of all room while one look promises attempts, none of which has started.

    ``server_room`` is how many attempts the server may start in all.
    """

    def __init__(self, limits: Limits, origins: Origins, *, server_room: int) -> None:
        self._limits = limits
        self._origins = origins
        self._server_room = server_room
        self._holding: dict[Share, int] = {}  # slots, those that are promised included
        self._queue_rooms: dict[str, int] = {}
        self._share_rooms: dict[Share, int] = {}
        self._origin_rooms: dict[str, int] = {}  # all queues share them
        self._promised_origins: set[str] = set()
        self.promised_to: dict[str, QueueState] = {}
        self.passed_over: list[LaneState] = []

    def queue_room(self, queue: QueueState) -> int:
        """Return how many more attempts of a queue may be promised."""
        room = self._queue_rooms.get(queue.name)
        if room is None:
            room = self._queue_rooms[queue.name] = self._limits.queue_room(queue)
        return room

    def room(self, queue: QueueState, state: LaneState) -> int:
        """Return how many more attempts of a lane may be promised, as far as its origin goes."""
        if self._limits.is_paused(state.lane):
            return 0
        share = state.share
        room = self._share_rooms.get(share)
        if room is None:
            room = self._share_rooms[share] = self._limits.share_room(queue, share)
            self._holding[share] = share.in_flight
        free = self._origin_rooms.get(share.origin)
        if free is None:
            free = self._origins.free_slots(share.origin)
            self._origin_rooms[share.origin] = free
        return min(room, free)

    def has_its_part(self, queue: QueueState, state: LaneState) -> bool:
        """Tell whether a lane's origin holds as many slots as if all due lanes held the same."""
        slots = min(self._limits.slots(queue), queue.in_flight + self._server_room)
        return self._holding[state.share] * len(queue.due) >= slots

    def promise(self, queue: QueueState, state: LaneState, count: int) -> None:
        """Promise attempts to a lane that has room for them."""
        self._queue_rooms[queue.name] -= count
        self._share_rooms[state.share] -= count
        self._holding[state.share] += count
        self._origin_rooms[state.share.origin] -= count
        self._promised_origins.add(state.share.origin)
        self.promised_to[queue.name] = queue

    def pass_over(self, state: LaneState) -> None:
        """Remember a lane that has no room left only if what is promised comes about."""
        if state.share.origin in self._promised_origins:
            self.passed_over.append(state)
