"""Leases due tasks, makes their attempts, and records what they came to."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from random import Random
from typing import NamedTuple

from poussetaches.core.cause import Cause
from poussetaches.core.errors import InvalidTask, StoreUnavailable
from poussetaches.core.ids import new_request_id
from poussetaches.core.moment import Moment, seconds_between
from poussetaches.core.progress import Progress
from poussetaches.core.queue import Lane
from poussetaches.core.task import (
    Attempt,
    Bury,
    Complete,
    Move,
    Outcome,
    Reason,
    RetryAt,
    Task,
    next_move,
)
from poussetaches.engine.clock import Bell, Clock
from poussetaches.engine.clock_watch import ClockWatch
from poussetaches.engine.config import EngineConfig
from poussetaches.engine.deadline import GRACE, LATE
from poussetaches.engine.defects import Defects, raise_end
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.observer import Observer
from poussetaches.engine.origins import Origins
from poussetaches.engine.queues import Queues
from poussetaches.engine.rates import Rates
from poussetaches.engine.recorder import STORE_RETRY, End, PutBack, Recorder
from poussetaches.engine.request import build_request
from poussetaches.engine.running import RunningAttempts
from poussetaches.engine.sender import Sender
from poussetaches.engine.shortage import Shortage
from poussetaches.store.base import Finish, Lease, Store

CHARGE_BATCH = 100  # tasks of an origin that stays away, charged in one go
LOOK_BATCH = 500  # lanes that the store is asked about at once
LOOK_INTERVAL = 60.0  # seconds between looks at due lanes, whether they may start or not

log = logging.getLogger(__name__)


class Made(NamedTuple):
    """What is known of an attempt besides its outcome."""

    request_id: str
    started_at: Moment
    duration: float  # seconds
    outcome: Outcome
    key_sent: bool | None  # None if there is no key, or nothing was sent
    progress: Progress | None = None


class Dispatcher:
    """Runs due tasks, at most ``max_in_flight`` at once."""

    def __init__(
        self,
        *,
        store: Store,
        sender: Sender,
        observer: Observer,
        queues: Queues,
        lanes: Lanes,
        origins: Origins,
        shortage: Shortage,
        rates: Rates,
        clock: Clock,
        clock_watch: ClockWatch,
        running: RunningAttempts,
        random: Random,
        bell: Bell,
        probe_bell: Bell,
        config: EngineConfig,
        defects: Defects,
    ) -> None:
        self._store = store
        self._sender = sender
        self._observer = observer
        self._queues = queues
        self._lanes = lanes
        self._origins = origins
        self._shortage = shortage
        self._rates = rates
        self._recorder = Recorder(store=store, clock=clock, defects=defects)
        self._keeping: set[asyncio.Task[None]] = set()  # one at most
        self._clock = clock
        self._clock_watch = clock_watch
        self._running = running
        self._random = random
        self._bell = bell
        self._probe_bell = probe_bell
        self._config = config
        self._defects = defects
        self._draining = False
        self._behind_since: float | None = None
        self._looked_at = clock.monotonic()
        self._on_wire: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """How many attempts are on the wire."""
        return len(self._on_wire)

    @property
    def room(self) -> int:
        """How many more attempts may be on the wire."""
        return self._shortage.most_in_flight(self._config.max_in_flight) - len(self._on_wire)

    @property
    def draining(self) -> bool:
        """Tell whether no attempt is started any more, since the server stops."""
        return self._draining

    @property
    def is_starting_attempts(self) -> bool:
        """Tell whether due tasks are to be started at present, but for those that are paused."""
        return not (self._draining or self._store.trouble)

    @property
    def behind_since(self) -> float | None:
        """Since when, monotonic, each look has left due tasks unstarted that nothing holds."""
        return self._behind_since if self.is_starting_attempts else None

    @property
    def recording_since(self) -> float | None:
        """Since when, monotonic, the oldest end waits to be recorded by a store that can write."""
        return self._recorder.waiting_since

    async def tick(self) -> float | None:
        """Start every task that is due and fits; return when to look again."""
        if self._store.trouble is not None:
            return await self._recover()
        if self._draining:
            return None
        try:
            await self._clock_watch.look()
            await self._look_at_all_due()
            await self._start_due()
            await self._charge_due()
        except StoreUnavailable as exc:
            log.warning("no due tasks from the store", extra={"error": str(exc)})
            return self._clock.monotonic() + STORE_RETRY
        self._note_what_is_left()
        if self._lanes.has_spent:  # the store was unavailable before
            self._keep_rates()
        return self._wake_at()

    def _wake_at(self) -> float | None:
        """Return when an attempt may start that does not wait for an event."""
        next_step_at = self._shortage.next_step_at(self._config.max_in_flight)
        times = (self._lanes.wake_at(), next_step_at)
        return min((time for time in times if time is not None), default=None)

    async def drain(self, limit: float) -> None:
        """Start no more; let attempts in flight end, and cut off what is left after a time."""
        self._draining = True
        self._recorder.stop_retrying()
        if self._on_wire and limit > 0:
            log.info("waiting for attempts in flight", extra={"count": len(self._on_wire)})
            ends_at = self._clock.monotonic() + limit
            deadline = asyncio.create_task(self._clock.sleep(limit))
            ended = asyncio.ensure_future(_all_done(self._on_wire))
            await asyncio.wait({deadline, ended}, return_when=asyncio.FIRST_COMPLETED)
            if self._clock.monotonic() > ends_at + LATE:
                # The process was suspended: read the answers that arrived meanwhile.
                await asyncio.wait({ended}, timeout=GRACE)
            for waiter in (deadline, ended):
                waiter.cancel()
        if self._on_wire:
            log.warning("attempts cut off, to be made again", extra={"count": len(self._on_wire)})
        self.cut_off()
        await _all_done(self._on_wire)
        await self._recorder.settle()
        await _all_done(self._keeping)

    def cut_off(self) -> None:
        """Break off the attempts in flight; nothing of them is recorded."""
        for attempt in self._on_wire:
            attempt.add_done_callback(self._on_wire.discard)  # it may never have begun
            attempt.cancel()

    async def settle(self) -> None:
        """Wait until no attempt is in flight and every outcome is recorded."""
        while under_way := self._on_wire | self._recorder.under_way | self._keeping:
            await asyncio.wait(under_way)

    async def _start_due(self) -> None:
        while wanted := self._lanes.startable(self.room):
            if not self.is_starting_attempts:
                return
            looked_at = self._clock.now()
            leases = await self._lease(wanted)
            now = self._clock.now()
            for lease in leases:
                self._start(lease, now)
            if self._lanes.has_spent:
                self._keep_rates()
            # Lanes whose tasks are gone are no longer due: those behind them must have their turn.
            if not leases and all(self._lanes.was_due(lane, looked_at) for lane in wanted):
                return

    def _keep_rates(self) -> None:
        """Store the buckets that tokens were taken from, without holding up any attempt."""
        if not self._keeping:
            keeping = asyncio.create_task(self._rates.keep())
            self._keeping.add(keeping)
            keeping.add_done_callback(self._keeping.discard)

    async def _lease(self, wanted: dict[Lane, int]) -> list[Lease]:
        self._lanes.looking(wanted)
        now = self._clock.now()
        # A task that is not expired by the confirmed time would be put back, and leased again.
        skip_expired = self._clock.confirmed() < now
        leased = await self._store.lease_due(wanted, now=now, skip_expired=skip_expired)
        for lane, next_due in leased.next_due.items():
            self._lanes.looked(lane, next_due)
        return leased.leases

    async def _look_at_all_due(self) -> None:
        """See now and then whether due tasks are still there: nobody asks for those that wait."""
        now = self._clock.monotonic()
        if now < self._looked_at + LOOK_INTERVAL:
            return
        self._looked_at = now
        lanes = self._lanes.due_lanes()
        for start in range(0, len(lanes), LOOK_BATCH):
            await self._lease(dict.fromkeys(lanes[start : start + LOOK_BATCH], 0))

    def _note_what_is_left(self) -> None:
        if self.room <= 0 or not self._lanes.is_behind():
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = self._clock.monotonic()

    def _start(self, lease: Lease, now: Moment) -> None:
        """Start a leased task's attempt; an unexpected exception ends this task and no other."""
        try:
            self._start_if_due(lease, now)
        except Exception as exc:
            self._recorder.record(self._broken(lease, "attempt could not be started", exc))

    def _start_if_due(self, lease: Lease, now: Moment) -> None:
        task = lease.task
        lane = task.lane
        # The clock was set back since the lease, or a stop, a pause or trouble came meanwhile.
        if task.run_at > now or not self.is_starting_attempts or self._lanes.is_paused(lane):
            self._recorder.record(PutBack(lease))
            return
        if self._has_expired(lease, now):
            return
        origin = self._lanes.started(lane)
        self._observer.attempt_started(task, now=now)
        self._on_wire.add(asyncio.create_task(self._run(lease, lane, origin)))

    def _has_expired(self, lease: Lease, now: Moment) -> bool:
        """Return whether it is too late for an attempt; the task then dies without one.

        If it has expired only by a clock that was just set ahead, it is put back instead.
        """
        expires_at = lease.task.expires_at
        if expires_at is None or expires_at > now:
            return False
        if expires_at <= self._clock.confirmed():
            ended_at = self._clock.latest_possible()
            self._recorder.record(Finish(lease, Bury(Reason.EXPIRED), ended_at=ended_at))
        else:
            self._recorder.record(PutBack(lease))
        return True

    async def _run(self, lease: Lease, lane: Lane, origin: str) -> None:
        """Make one attempt and have what it came to recorded, unless it is cut off."""
        own = asyncio.current_task()
        assert own is not None
        try:
            end = await self._ended(lease, lane, origin)
        finally:
            # Without an await since the bell rang: the tick that it wakes must find the room.
            self._on_wire.discard(own)
        await self._recorder.record_here(end)

    async def _ended(self, lease: Lease, lane: Lane, origin: str) -> End:
        """Make one attempt; return what follows, even after an unexpected exception."""
        made: Made | None = None
        try:
            try:
                made = await self._attempt(lease.task)
            finally:
                self._lanes.ended(lane, origin)
                self._bell.ring()
            return self._end_of(lease, origin, made)
        except BaseException as exc:
            raise_end(exc)
            return self._broken(lease, "attempt could not be judged", exc, made)

    async def _attempt(self, task: Task) -> Made:
        """Make one attempt, whatever comes of it."""
        request_id = new_request_id(self._random)
        now, started = self._clock.now(), self._clock.monotonic()
        key_sent: bool | None = None
        token = self._running.begin(task, request_id)
        try:
            request = build_request(
                task,
                request_id=request_id,
                token=token,
                now=now,
                queues=self._queues,
                config=self._config,
            )
            outcome = await self._sender.send(request)
            if self._config.auth_key is not None:
                key_sent = request.key_sent
        except InvalidTask as exc:
            error = f"the request cannot be made: {exc}"
            outcome = Outcome(error=error, cause=Cause.INVALID_REQUEST)
        except BaseException as exc:  # a bug of ours must cost an attempt, not the task
            raise_end(exc)
            defect = self._defects.note("attempt broke down", exc, task=task.id)
            error = f"poussetaches could not make the request: {defect}"
            outcome = Outcome(error=error, cause=Cause.INTERNAL_ERROR)
        finally:
            progress = self._running.end(task.id)
        duration = self._clock.monotonic() - started
        return Made(request_id, now, duration, outcome, key_sent, progress)

    def _end_of(self, lease: Lease, origin: str, made: Made) -> End:
        """Return what an attempt came to, having learnt what it says of its origin."""
        task, outcome = lease.task, made.outcome
        if outcome.out_of_resources:
            self._shortage.met(outcome)
            if not outcome.unreachable:
                return self._put_back(lease, outcome)
        self._note_origin(task, origin, made)
        if outcome.unreachable and self._costs_nothing(origin, outcome):
            log.info("origin not reached", extra={"task": task.id, "error": outcome.error})
            return self._put_back(lease, outcome)
        return self._judge(lease, made)

    def _put_back(self, lease: Lease, outcome: Outcome) -> PutBack:
        self._observer.attempt_put_back(lease.task)
        return PutBack(lease, outcome.error)

    def _note_origin(self, task: Task, origin: str, made: Made) -> None:
        outcome = made.outcome
        if outcome.unreachable and self._is_absence(origin, outcome):
            now, error = self._clock.monotonic(), outcome.error or ""
            if self._origins.refused(origin, error, now, took=made.duration):
                log.warning("origin held", extra={"origin": origin, "error": error})
                self._probe_bell.ring()
        if not outcome.unknown_host:
            self._origins.resolved(origin)
        if outcome.status is not None and outcome.error is None:
            self._origins.answered(origin)
        if outcome.status == HTTPStatus.TOO_MANY_REQUESTS and outcome.retry_after is not None:
            wait = min(outcome.retry_after, self._queues.policy_of(task).max_retry_after)
            until = self._clock.monotonic() + wait
            self._lanes.asked_to_wait(task.queue, origin, until=until)

    def _is_absence(self, origin: str, outcome: Outcome) -> bool:
        """Tell whether an origin that was not reached is away. A name may be just wrong."""
        return not outcome.unknown_host or self._origins.was_resolved(origin)

    def _costs_nothing(self, origin: str, outcome: Outcome) -> bool:
        """Tell whether an outcome is the origin's affair alone, and no attempt of the task."""
        now = self._clock.monotonic()
        is_charged = self._origins.charged_error(origin, now) is not None
        return self._is_absence(origin, outcome) and not is_charged

    async def _charge_due(self) -> None:
        """Charge the due tasks of origins that stay away an attempt each, unsent."""
        for lane, error in self._lanes.charged().items():
            for lease in await self._lease({lane: CHARGE_BATCH}):
                try:
                    self._charge(lease, error)
                except Exception as exc:
                    self._recorder.record(self._broken(lease, "task could not be charged", exc))

    def _charge(self, lease: Lease, error: str) -> None:
        now = self._clock.now()
        if self._has_expired(lease, now):
            return
        outcome = Outcome(error=error, cause=Cause.ORIGIN_HELD)
        made = Made(new_request_id(self._random), now, 0.0, outcome, key_sent=None)
        self._recorder.record(self._judge(lease, made))

    def _judge(self, lease: Lease, made: Made) -> Finish:
        """Return what follows an attempt that counts."""
        task, outcome, now = lease.task, made.outcome, self._clock.now()
        policy, confirmed = self._queues.policy_of(task), now
        if task.expires_at is not None or policy.max_age is not None:
            confirmed = self._clock.confirmed()
        move = next_move(task, outcome, policy, now=now, random=self._random, confirmed=confirmed)
        succeeded = isinstance(move, Complete)
        error = outcome.error or (None if succeeded else outcome.redirect)
        attempt = _attempt_of(task, made, error, succeeded=succeeded)
        if log.isEnabledFor(logging.WARNING if isinstance(move, Bury) else logging.INFO):
            # Not the attempt's error: the location of a redirect is as private as the task's URL.
            _log_attempt(task, attempt, move, error=outcome.error, now=now)
        self._observer.attempt_ended(task, attempt, now=now)
        # A clock that is behind must not shorten the retention of a dead letter.
        ended_at = self._clock.latest_possible() if isinstance(move, Bury) else None
        return Finish(lease, move, attempt, ended_at)

    def _broken(
        self, lease: Lease, event: str, exc: BaseException, made: Made | None = None
    ) -> Finish:
        """Return the end of a task whose attempt failed with an internal error."""
        error = f"internal error: {self._defects.note(event, exc, task=lease.task.id)}"
        attempt = None if made is None else _attempt_of(lease.task, made, error, succeeded=False)
        return Finish(lease, Bury(Reason.INTERNAL_ERROR, error), attempt)

    async def _recover(self) -> float:
        self._behind_since = None
        try:
            await self._store.recover()
            # A write that was reported as failed may be on disk all the same.
            for lane, run_at in (await self._store.next_due()).items():
                self._lanes.waits(lane, run_at)
        except StoreUnavailable:
            return self._clock.monotonic() + STORE_RETRY
        return self._clock.monotonic()


def _attempt_of(task: Task, made: Made, error: str | None, *, succeeded: bool) -> Attempt:
    outcome = made.outcome
    return Attempt(
        round=task.round,
        number=task.attempt_count + 1,
        request_id=made.request_id,
        started_at=made.started_at,
        duration=made.duration,
        succeeded=succeeded,
        status=outcome.status,
        error=error,
        cause=outcome.cause,
        response_body=outcome.body,
        response_truncated=outcome.truncated,
        key_sent=made.key_sent,
        progress=made.progress,
    )


async def _all_done(tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(set(tasks))


def _log_attempt(
    task: Task, attempt: Attempt, move: Move, *, error: str | None, now: Moment
) -> None:
    fields: dict[str, object] = {
        "task": task.id,
        "queue": task.queue,
        "attempt": attempt.number,
        "request": attempt.request_id,
        "duration": round(attempt.duration, 6),
    }
    if attempt.status is not None:
        fields["status"] = attempt.status
    if error is not None:
        fields["error"] = error
    match move:
        case Complete():
            log.info("attempt succeeded", extra=fields)
        case RetryAt():
            fields["retry_in"] = seconds_between(now, move.run_at)
            log.info("attempt failed", extra=fields)
        case Bury():
            log.warning("task died", extra={**fields, "reason": move.reason.value})
