"""``AttemptRunner``: makes attempts, and decides the next move of their tasks."""

from __future__ import annotations

import logging
from http import HTTPStatus
from random import Random
from typing import NamedTuple

from poussetaches.core.cause import Cause
from poussetaches.core.errors import InvalidTask
from poussetaches.core.ids import new_request_id
from poussetaches.core.moment import Moment, seconds_between
from poussetaches.core.progress_report import Progress
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
from poussetaches.engine.attempt_progress import RunningAttempts
from poussetaches.engine.clock import Bell, Clock
from poussetaches.engine.defects import Defects, raise_end
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.observer import Observer
from poussetaches.engine.origins import Origins
from poussetaches.engine.queue_registry import Queues
from poussetaches.engine.recorder import End, PutBack
from poussetaches.engine.request import build_request
from poussetaches.engine.restarts import Restarts
from poussetaches.engine.sender import Sender
from poussetaches.engine.shortage import Shortage
from poussetaches.store.base import Finish, Lease

log = logging.getLogger(__name__)


class MadeAttempt(NamedTuple):
    """An attempt that was made."""

    request_id: str
    started_at: Moment
    duration: float  # seconds
    outcome: Outcome
    key_sent: bool | None  # None if there is no key, or nothing was sent
    progress: Progress | None = None


class AttemptRunner:
    """Makes single attempts of leased tasks; starting and recording them is the dispatcher's."""

    def __init__(
        self,
        *,
        sender: Sender,
        observer: Observer,
        queues: Queues,
        lanes: Lanes,
        origins: Origins,
        shortage: Shortage,
        clock: Clock,
        running: RunningAttempts,
        random: Random,
        bell: Bell,
        probe_bell: Bell,
        config: EngineConfig,
        defects: Defects,
    ) -> None:
        self._sender = sender
        self._observer = observer
        self._queues = queues
        self._lanes = lanes
        self._origins = origins
        self._shortage = shortage
        self._clock = clock
        self._running = running
        self._random = random
        self._bell = bell
        self._probe_bell = probe_bell
        self._config = config
        self._defects = defects
        self._restarts = Restarts()

    async def run(self, lease: Lease, lane: Lane, origin: str) -> End:
        """Make one attempt; return its end, even after an unexpected exception."""
        made: MadeAttempt | None = None
        try:
            try:
                made = await self._attempt(lease.task)
            finally:
                self._lanes.end_attempt(lane, origin)
                self._bell.ring()
            return self._end_of(lease, origin, made)
        except BaseException as exc:
            raise_end(exc)
            return self.broken(lease, "attempt could not be judged", exc, made)

    def charge(self, lease: Lease, error: str) -> Finish:
        """Return the end of an attempt that is charged without being sent."""
        outcome = Outcome(error=error, cause=Cause.ORIGIN_HELD)
        request_id = new_request_id(self._random)
        made = MadeAttempt(request_id, self._clock.now(), 0.0, outcome, key_sent=None)
        return self._judge(lease, made)

    def broken(
        self, lease: Lease, event: str, exc: BaseException, made: MadeAttempt | None = None
    ) -> Finish:
        """Return the end of a task whose attempt failed with an internal error."""
        error = f"internal error: {self._defects.note(event, exc, task=lease.task.id)}"
        attempt = None if made is None else _attempt_of(lease.task, made, error, succeeded=False)
        return Finish(lease, Bury(Reason.INTERNAL_ERROR, error), attempt)

    async def _attempt(self, task: Task) -> MadeAttempt:
        """Make one attempt and return its outcome, which may be an error."""
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
        except BaseException as exc:  # a defect must cost an attempt, not the task
            raise_end(exc)
            defect = self._defects.note("attempt failed with an internal error", exc, task=task.id)
            error = f"poussetaches could not make the request: {defect}"
            outcome = Outcome(error=error, cause=Cause.INTERNAL_ERROR)
        finally:
            progress = self._running.end(task.id)
        duration = self._clock.monotonic() - started
        return MadeAttempt(request_id, now, duration, outcome, key_sent, progress)

    def _end_of(self, lease: Lease, origin: str, made: MadeAttempt) -> End:
        """Return the end of an attempt, after recording what it shows about its origin."""
        task, outcome = lease.task, made.outcome
        if outcome.out_of_resources:
            self._shortage.met(outcome)
            if not outcome.unreachable:
                return self._put_back(lease, outcome)
        self._note_origin(task, origin, made)
        if outcome.unreachable and self._costs_nothing(task, origin, outcome):
            log.info("origin not reached", extra={"task": task.id, "error": outcome.error})
            return self._put_back(lease, outcome)
        return self._judge(lease, made)

    def _put_back(self, lease: Lease, outcome: Outcome) -> PutBack:
        self._observer.attempt_put_back(lease.task)
        return PutBack(lease, outcome.error)

    def _note_origin(self, task: Task, origin: str, made: MadeAttempt) -> None:
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
        """Return whether an origin that was not reached is absent. Its name may just be wrong."""
        return not outcome.unknown_host or self._origins.was_resolved(origin)

    def _costs_nothing(self, task: Task, origin: str, outcome: Outcome) -> bool:
        """Return whether an outcome is due to the origin alone, and not charged to the task."""
        now = self._clock.monotonic()
        is_charged = self._origins.charged_error(origin, now) is not None
        if is_charged or not self._is_absence(origin, outcome):
            return False
        return outcome.cause is not Cause.RESTARTED or self._restarts.forgives(task)

    def _judge(self, lease: Lease, made: MadeAttempt) -> Finish:
        """Return the next move after an attempt that counts."""
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


def _attempt_of(task: Task, made: MadeAttempt, error: str | None, *, succeeded: bool) -> Attempt:
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
