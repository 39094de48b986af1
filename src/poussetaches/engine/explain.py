"""Why tasks and queues wait, in words that a user understands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from poussetaches.core.moment import Moment, later, seconds_between
from poussetaches.core.queue import Lane
from poussetaches.core.task import Task, TaskState
from poussetaches.core.waiting import WaitingFor, WaitReason
from poussetaches.engine.clock import Clock
from poussetaches.engine.dispatcher import Dispatcher
from poussetaches.engine.lane_state import QueueState, Share
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.origins import Origins
from poussetaches.engine.queues import Queues
from poussetaches.engine.shortage import Shortage
from poussetaches.store.base import Store


class Explainer:
    """Reads the state of the engine, and changes nothing."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        queues: Queues,
        lanes: Lanes,
        origins: Origins,
        shortage: Shortage,
        clock: Clock,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._queues = queues
        self._lanes = lanes
        self._origins = origins
        self._shortage = shortage
        self._clock = clock

    def waiting_for(self, task: Task) -> list[WaitingFor]:
        """Return what a waiting task waits for; those in front of it are not looked at.

        The limits of its queue and its origin count only once it is due.
        """
        if task.state is not TaskState.WAITING:
            return []
        found = [*self._server(), *self._pauses(task.lane)]
        now = self._clock.now()
        if task.run_at > now:
            return [*found, _delay(task)]
        if task.expires_at is not None and self._clock.confirmed() < task.expires_at <= now:
            return [*found, self._expiry(now)]
        queue = self._lanes.state_of(task.queue)
        if queue is None:
            return found
        origin = self._queues.origin_of(task.lane)
        shares = [queue.shares[origin]] if origin in queue.shares else []
        return [*found, *self._queue_limits(queue), *self._share_limits(queue, shares)]

    def queue_waiting_for(self, name: str) -> list[WaitingFor]:
        """Return what keeps a queue from starting attempts; limits count when tasks are due.

        A pause counts whether or not there are tasks.
        """
        found = [*self._server(), *self._pauses(Lane(name, ""))]
        queue = self._lanes.state_of(name)
        if queue is None:
            return found
        shares = list({state.share: None for state in queue.due_states()})
        if not shares:
            return found
        return [*found, *self._queue_limits(queue), *self._share_limits(queue, shares)]

    def oldest_due_at(self, name: str | None) -> Moment | None:
        """Return since when a queue's oldest due task is due, or (None) that of all queues."""
        now = self._clock.now()
        queues = self._lanes.states() if name is None else [self._lanes.state_of(name)]
        moments = (
            state.next_due
            for queue in queues
            if queue is not None
            for state in queue.lanes.values()
        )
        return min((m for m in moments if m is not None and m <= now), default=None)

    def _server(self) -> Iterator[WaitingFor]:
        if self._dispatcher.draining:
            yield WaitingFor(
                reason=WaitReason.DRAINING,
                detail="the server is being stopped and starts no more attempts",
            )
        trouble = self._store.trouble
        if trouble is not None:
            yield WaitingFor(
                reason=WaitReason.STORE_FULL,
                detail=f"no attempt starts while the store cannot be written: {trouble.reason}",
            )

    def _pauses(self, lane: Lane) -> Iterator[WaitingFor]:
        if lane.forced:
            return
        if self._lanes.limits.server_paused:
            yield WaitingFor(reason=WaitReason.SERVER_PAUSED, detail="the server is paused")
        if self._queues.is_paused(lane.queue):
            yield WaitingFor(reason=WaitReason.PAUSED, detail=f"the queue {lane.queue} is paused")

    def _expiry(self, now: Moment) -> WaitingFor:
        leap = seconds_between(self._clock.confirmed(), now)
        return WaitingFor(
            reason=WaitReason.CLOCK,
            detail=f"it has expired by the clock, which was set ahead by {leap:.0f} s; it dies if "
            "the clock stays so for an hour",
        )

    def _queue_limits(self, queue: QueueState) -> Iterator[WaitingFor]:
        settings = self._queues.settings_of(queue.name)
        bucket = self._lanes.limits.bucket(queue)
        if bucket is not None and not bucket.available:
            yield WaitingFor(
                reason=WaitReason.RATE,
                until=later(self._clock.now(), bucket.wait),
                detail=f"the queue starts {settings.rate:g} attempts a second at most",
            )
        if queue.in_flight >= settings.concurrency:
            yield WaitingFor(
                reason=WaitReason.CONCURRENCY,
                detail=f"the queue has {queue.in_flight} of {settings.concurrency} attempts on "
                "the wire",
            )
        elif self._dispatcher.room <= 0 and self._shortage.error is not None:
            yield WaitingFor(
                reason=WaitReason.OUT_OF_RESOURCES,
                detail=f"the server starts fewer attempts at the moment: {self._shortage.error}",
            )
        elif self._dispatcher.room <= 0:
            count = self._dispatcher.in_flight
            yield WaitingFor(
                reason=WaitReason.CONCURRENCY,
                detail=f"the server has {count} of {count} attempts on the wire, of all queues",
            )

    def _share_limits(self, queue: QueueState, shares: Iterable[Share]) -> Iterator[WaitingFor]:
        """Yield each reason once, with the origins that it holds for."""
        full: list[str] = []
        held: list[str] = []
        asked: list[tuple[float, str]] = []
        now = self._clock.monotonic()
        errors = self._origins.held()
        for share in shares:
            if share.origin in errors:
                held.append(f"{share.origin} cannot be reached ({errors[share.origin]})")
                continue
            if share.asked_to_wait_until > now:
                asked.append((share.asked_to_wait_until, f"{share.origin} asked to be left alone"))
            slots = self._taken_slots(queue, share)
            if slots is not None:
                full.append(slots)
        if full:
            yield WaitingFor(reason=WaitReason.ORIGIN_SLOTS, detail=_listed(full))
        if held:
            detail = f"{_listed(held)}; its tasks wait until a probe connects"
            yield WaitingFor(reason=WaitReason.ORIGIN_HELD, detail=detail)
        if asked:
            asked.sort()
            yield WaitingFor(
                reason=WaitReason.ASKED_TO_WAIT,
                until=later(self._clock.now(), asked[0][0] - now),
                detail=_listed([text for _, text in asked]),
            )

    def _taken_slots(self, queue: QueueState, share: Share) -> str | None:
        """Return which slots of an origin are all taken; None when one is free."""
        cap = self._lanes.limits.share_cap(queue, share)
        settings = self._queues.settings_of(queue.name)
        if share.in_flight >= cap and cap < settings.concurrency:
            return (
                f"{share.origin} has {share.in_flight} of the {cap} slots that one origin may "
                "hold of this queue"
            )
        if share.origin and self._origins.free_slots(share.origin) <= 0:
            count = self._origins.on_wire(share.origin)
            return f"{share.origin} was away and is given {count} attempts at once for now"
        return None


def _delay(task: Task) -> WaitingFor:
    if task.attempt_count:
        return WaitingFor(
            reason=WaitReason.BACKOFF,
            until=task.run_at,
            detail=f"attempt {task.attempt_count} failed; it is tried again after a wait",
        )
    return WaitingFor(
        reason=WaitReason.NOT_DUE, until=task.run_at, detail="it is to run at a later time"
    )


def _listed(details: list[str]) -> str:
    """Return the first of several details, and how many more there are."""
    more = len(details) - 1
    return f"{details[0]}, and {more} more origins alike" if more else details[0]
