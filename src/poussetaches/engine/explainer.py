"""``Explainer``: explains to users why tasks and queues wait."""

from __future__ import annotations

from collections.abc import Iterable

from poussetaches.core.moment import Moment, seconds_between
from poussetaches.core.queue import Lane
from poussetaches.core.task import Task, TaskState
from poussetaches.core.wait_reason import WaitingFor, WaitReason
from poussetaches.engine.clock import Clock
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.limits import Limit, Scope, reached
from poussetaches.engine.queue_registry import Queues
from poussetaches.engine.server_limits import ServerLimits

OF_ORIGINS = (Scope.SHARE, Scope.ORIGIN)
DETAILS = {
    (WaitReason.DRAINING, Scope.SERVER): "the server is stopping and starts no more attempts",
    (WaitReason.STARTING, Scope.SERVER): (
        "the server is starting; under `run`, attempts begin when the application answers, or "
        "30 s after it was started"
    ),
    (WaitReason.STORE_FULL, Scope.SERVER): (
        "no attempt starts while the store cannot be written: {limit.error}"
    ),
    (WaitReason.SERVER_PAUSED, Scope.SERVER): "the server is paused",
    (WaitReason.PAUSED, Scope.QUEUE): "the queue {limit.subject} is paused",
    (WaitReason.NOT_DUE, Scope.TASK): "it is to run at a later time",
    (WaitReason.BACKOFF, Scope.TASK): (
        "attempt {task.attempt_count} failed; the next one is made after a wait"
    ),
    (WaitReason.CLOCK, Scope.TASK): (
        "it has expired by the clock, which was set ahead by {leap:.0f} s; it dies if the clock "
        "stays so for an hour"
    ),
    (WaitReason.RATE, Scope.QUEUE): "the queue starts at most {limit.most:g} attempts per second",
    (WaitReason.CONCURRENCY, Scope.QUEUE): (
        "the queue has {limit.in_flight} of {limit.most} attempts in flight"
    ),
    (WaitReason.CONCURRENCY, Scope.SERVER): (
        "the server has {limit.in_flight} of {limit.most} attempts in flight, for all queues"
    ),
    (WaitReason.OUT_OF_RESOURCES, Scope.SERVER): (
        "the server starts fewer attempts at the moment: {limit.error}"
    ),
    (WaitReason.ORIGIN_SLOTS, Scope.SHARE): (
        "{limit.subject} has {limit.in_flight} of the {limit.most} attempts that this queue may "
        "have in flight to one origin"
    ),
    (WaitReason.ORIGIN_SLOTS, Scope.ORIGIN): (
        "{limit.subject} could not be reached before, and gets only {limit.most} attempts at once "
        "for now"
    ),
    (WaitReason.ORIGIN_HELD, Scope.ORIGIN): (
        "{limit.subject} cannot be reached ({limit.error}); its tasks wait until a probe connects"
    ),
    (WaitReason.ASKED_TO_WAIT, Scope.SHARE): ("{limit.subject} answered 429 and asked to wait"),
}


class Explainer:
    """Puts the limits that are reached into words, and changes nothing."""

    def __init__(
        self, *, server: ServerLimits, lanes: Lanes, queues: Queues, clock: Clock
    ) -> None:
        self._server = server
        self._lanes = lanes
        self._limits = lanes.limits
        self._queues = queues
        self._clock = clock

    def waiting_for(self, task: Task) -> list[WaitingFor]:
        """Return why a waiting task waits, without the tasks ahead of it.

        The limits of its queue and its origin apply only once it is due.
        """
        if task.state is not TaskState.WAITING:
            return []
        now, confirmed = self._clock.now(), self._clock.confirmed()
        of_time = self._limits.of_time(task, now=now, confirmed=confirmed)
        limits = self._of_start(task.lane)
        limits += self._of_lane(task.lane) if of_time is None else [of_time]
        return [self._in_words(alike, task) for alike in _by_reason(limits)]

    def wait_reasons(self, tasks: Iterable[Task]) -> list[list[Limit] | None]:
        """Return the limits that each task of a list waits for; None if it does not wait.

        Due tasks with the same queue and URL share one list: lists are read often, and have up to
        a thousand tasks.
        """
        now, confirmed = self._clock.now(), self._clock.confirmed()
        starts: dict[tuple[str, bool], list[Limit]] = {}
        due: dict[tuple[str, str, bool], list[Limit]] = {}
        found: list[list[Limit] | None] = []
        for task in tasks:
            if task.state is not TaskState.WAITING:
                found.append(None)
                continue
            queue, forced = task.queue, task.forced
            of_start = starts.get((queue, forced))
            if of_start is None:
                of_start = starts[queue, forced] = self._of_start(Lane(queue, "", forced))
            limit = self._limits.of_time(task, now=now, confirmed=confirmed)
            if limit is not None:
                found.append([*of_start, limit])
                continue
            limits = due.get((queue, task.url, forced))
            if limits is None:
                alike = _by_reason([*of_start, *self._of_lane(task.lane)])
                limits = due[queue, task.url, forced] = [first for first, *_ in alike]
            found.append(limits)
        return found

    def queue_waiting_for(self, name: str) -> list[WaitingFor]:
        """Return why a queue starts no attempts; limits count when tasks are due.

        A pause counts whether or not there are tasks.
        """
        limits = self._of_start(Lane(name, ""))
        queue = self._lanes.state_of(name)
        shares = {} if queue is None else {state.share: None for state in queue.due_states()}
        if queue is not None and shares:
            limits += [*self._limits.of_queue(queue), *self._server.of_slots()]
            for share in shares:
                limits += self._limits.of_share(queue, share)
                limits += self._limits.of_origin(share.origin)
        return [self._in_words(alike) for alike in _by_reason(limits)]

    def oldest_due_at(self, name: str | None) -> Moment | None:
        """Return when the oldest due task of a queue, or of all queues (None), became due."""
        now = self._clock.now()
        queues = self._lanes.states() if name is None else [self._lanes.state_of(name)]
        moments = (
            state.next_due
            for queue in queues
            if queue is not None
            for state in queue.lanes.values()
        )
        return min((m for m in moments if m is not None and m <= now), default=None)

    def _of_start(self, lane: Lane) -> list[Limit]:
        """Return the limits of a lane's tasks that apply whether they are due or not."""
        return [*self._server.of_state(), *self._limits.of_pauses(lane)]

    def _of_lane(self, lane: Lane) -> list[Limit]:
        """Return the limits of a lane's due tasks, without pauses."""
        queue = self._lanes.state_of(lane.queue)
        if queue is None:
            return []
        origin = self._queues.origin_of(lane)
        limits = [*self._limits.of_queue(queue), *self._server.of_slots()]
        if origin in queue.shares:
            limits += self._limits.of_share(queue, queue.shares[origin])
            limits += self._limits.of_origin(origin)
        return limits

    def _in_words(self, alike: list[Limit], task: Task | None = None) -> WaitingFor:
        first = alike[0]
        leap = seconds_between(self._clock.confirmed(), self._clock.now())
        template = DETAILS[first.reason, first.scope]
        detail = template.format(limit=first, task=task, leap=leap)
        more = len({limit.subject for limit in alike if limit.scope in OF_ORIGINS}) - 1
        if more > 0:
            detail += f"; the same holds for {more} more origins"
        return WaitingFor(reason=first.reason, detail=detail, until=first.until)


def _by_reason(limits: Iterable[Limit]) -> Iterable[list[Limit]]:
    """Return the limits that are reached, grouped by reason, in the order in which they end."""
    found: dict[WaitReason, list[Limit]] = {}
    for limit in reached(limits):
        found.setdefault(limit.reason, []).append(limit)
    for alike in found.values():
        alike.sort(key=lambda limit: limit.until or 0)
    return found.values()
