"""``Limits``: the limits on starting attempts, and the room that they leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec

from poussetaches.core.moment import DAY, Moment, later
from poussetaches.core.queue import Lane, QueueSettings
from poussetaches.core.task import Task
from poussetaches.core.wait_reason import WaitReason
from poussetaches.engine.clock import Clock
from poussetaches.engine.lane_state import QueueState, Share
from poussetaches.engine.origins import ALL_SLOTS, Origins
from poussetaches.engine.queue_registry import Queues
from poussetaches.engine.token_buckets import TokenBuckets

UNLIMITED = 1_000_000  # attempts; more than any setting allows


class Scope(Enum):
    """The tasks that a limit applies to."""

    SERVER = "all tasks"
    QUEUE = "those of a queue"
    SHARE = "those of a queue for one origin"
    ORIGIN = "those for one origin, of all queues"
    TASK = "one task"


class Limit(msgspec.Struct, frozen=True, gc=False):
    """A limit on attempts: how many more it allows now, and the reason to give if there are none.

    One computation serves both: there is room if no limit is reached, and each limit that is
    reached is a reason to wait.
    """

    reason: WaitReason
    scope: Scope
    room: int = 0
    until: Moment | None = None  # when a reached limit allows the next attempt, if that is known
    subject: str = ""  # the queue or the origin
    in_flight: int = 0
    most: float = 0  # attempts in flight, or started per second
    error: str = ""


def room_in(limits: Iterable[Limit]) -> int:
    """Return how many attempts all of some limits leave room for."""
    room = UNLIMITED
    for limit in limits:  # a loop is faster than min(), and this is done for every attempt
        room = min(room, limit.room)
    return room


def reached(limits: Iterable[Limit]) -> list[Limit]:
    """Return the limits that leave no room."""
    return [limit for limit in limits if limit.room <= 0]


class Limits:
    """The limits that follow from the settings of queues and the state of origins."""

    def __init__(self, queues: Queues, *, origins: Origins, clock: Clock) -> None:
        self._queues = queues
        self._origins = origins
        self._clock = clock
        self.buckets = TokenBuckets(queues, clock)
        self.server_paused = False

    def of_pauses(self, lane: Lane) -> Sequence[Limit]:
        """Return the pauses of a lane. Tasks that were told to run ignore them."""
        if lane.forced:
            return ()
        is_paused = self._queues.is_paused(lane.queue)
        if not (is_paused or self.server_paused):
            return ()
        found = []
        if self.server_paused:
            found.append(Limit(WaitReason.SERVER_PAUSED, Scope.SERVER))
        if is_paused:
            found.append(Limit(WaitReason.PAUSED, Scope.QUEUE, subject=lane.queue))
        return found

    def of_queue(self, queue: QueueState) -> list[Limit]:
        """Return the limits of a queue for all origins: its rate and its slots."""
        most, in_flight = self.slots(queue), queue.in_flight
        slots = Limit(
            WaitReason.CONCURRENCY,
            Scope.QUEUE,
            room=most - in_flight,
            subject=queue.name,
            in_flight=in_flight,
            most=most,
        )
        bucket = self.buckets.of(queue.name)
        if bucket is None:
            return [slots]
        room = bucket.available
        until = None if room else later(self._clock.now(), bucket.wait)
        rate = Limit(
            WaitReason.RATE,
            Scope.QUEUE,
            room=room,
            until=until,
            subject=queue.name,
            most=bucket.rate,
        )
        return [rate, slots]

    def of_share(self, queue: QueueState, share: Share) -> list[Limit]:
        """Return the limits of a queue that apply to one origin."""
        found = []
        settings = self._queues.settings_of(queue.name)
        cap = self._cap(settings, queue, share)
        if cap < settings.concurrency:
            found.append(
                Limit(
                    WaitReason.ORIGIN_SLOTS,
                    Scope.SHARE,
                    room=cap - share.in_flight,
                    subject=share.origin,
                    in_flight=share.in_flight,
                    most=cap,
                )
            )
        if share.asked_to_wait_until:
            wait = share.asked_to_wait_until - self._clock.monotonic()
            if wait > 0:
                until = later(self._clock.now(), wait)
                found.append(
                    Limit(WaitReason.ASKED_TO_WAIT, Scope.SHARE, until=until, subject=share.origin)
                )
        return found

    def of_origin(self, origin: str) -> list[Limit]:
        """Return the limits of an origin that cannot be reached, or could not a moment ago."""
        error = self._origins.hold_error(origin)
        if error is not None:
            return [Limit(WaitReason.ORIGIN_HELD, Scope.ORIGIN, subject=origin, error=error)]
        slots = self._origins.slots(origin)
        if slots >= ALL_SLOTS:
            return []
        in_flight = self._origins.in_flight(origin)
        return [
            Limit(
                WaitReason.ORIGIN_SLOTS,
                Scope.ORIGIN,
                room=slots - in_flight,
                subject=origin,
                in_flight=in_flight,
                most=slots,
            )
        ]

    def of_time(self, task: Task, *, now: Moment, confirmed: Moment) -> Limit | None:
        """Return the limit that the time sets to a waiting task; None if there is none."""
        if task.run_at > now:
            reason = WaitReason.BACKOFF if task.attempt_count else WaitReason.NOT_DUE
            return Limit(reason, Scope.TASK, until=task.run_at)
        if task.expires_at is not None and confirmed < task.expires_at <= now:
            return Limit(WaitReason.CLOCK, Scope.TASK)
        return None

    def slots(self, queue: QueueState) -> int:
        """Return how many attempts of a queue may be in flight."""
        return self._queues.settings_of(queue.name).concurrency

    def _cap(self, settings: QueueSettings, queue: QueueState, share: Share) -> int:
        """Return how many slots of a queue one origin may hold."""
        if not share.origin:
            return settings.concurrency
        if settings.origin_concurrency is not None:
            return settings.origin_concurrency
        if self._is_alone(queue, share):
            return settings.concurrency
        return max(1, settings.concurrency * 3 // 4)

    def _is_alone(self, queue: QueueState, share: Share) -> bool:
        """Return whether no other origin had a task of the queue in the last day."""
        if len(queue.shares) == 1:
            return True
        since = Moment(self._clock.now() - DAY)
        return not any(
            other is not share and other.was_used_since(since) for other in queue.shares.values()
        )
