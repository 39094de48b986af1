"""Tasks, attempts and outcomes, and the rule that decides a task's next state."""

from __future__ import annotations

from enum import StrEnum
from random import Random

import msgspec
from msgspec import UNSET

from poussetaches.core.cause import EXHAUSTED, UNREACHABLE, Cause
from poussetaches.core.failure_group import FailureGroup, first_line, group_of
from poussetaches.core.json_storage import Stored
from poussetaches.core.moment import SECOND, Moment, later, seconds_between
from poussetaches.core.progress_report import Progress
from poussetaches.core.queue import DEFAULT_QUEUE, Lane
from poussetaches.core.retry import (
    TEN_YEARS,
    RetryOverrides,
    RetryPolicy,
    StatusRule,
    backoff,
    matches,
)
from poussetaches.core.target import origin_of

MAX_DELAY = TEN_YEARS  # seconds; the farthest ahead that a task may be planned
_ENVELOPE = "envelope"  # true or false, in tasks that earlier versions wrote as JSON
NO_CALLBACK = ""  # instead of a URL: this task has no callback, even if its queue has one


class TaskState(StrEnum):
    """The state of a task."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"


class Reason(StrEnum):
    """Why a task died."""

    EXHAUSTED = "exhausted"  # every attempt failed
    TOO_OLD = "too_old"  # failed, and past the policy's max_age
    REFUSED = "refused"  # the receiver asked for no retry
    EXPIRED = "expired"  # past the task's own expires_at
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"  # a newer run of its schedule took its place
    INTERNAL_ERROR = "internal_error"  # poussetaches failed to process it


class BodyKind(StrEnum):
    """The form in which a task's body was pushed. It implies a Content-Type."""

    JSON = "json"
    TEXT = "text"
    BASE64 = "body_base64"


class DeliveryForm(StrEnum):
    """How a task's body is delivered."""

    PLAIN = "plain"  # as the body of the request
    ENVELOPE = "envelope"  # as the payload of the original's envelope


class Task(Stored, frozen=True):
    """One unit of work: a request to make, and its progress.

    Fields are not keyword-only, because reading a row passes its values by position: passing them
    by name takes twice as long.
    """

    id: str
    url: str
    created_at: Moment
    run_at: Moment
    due_at: Moment  # when this round was first due; ages are counted from here
    queue: str = DEFAULT_QUEUE
    method: str = "POST"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: bytes = b""
    body_kind: BodyKind | None = None
    delivery: DeliveryForm = DeliveryForm.PLAIN
    priority: int = 0
    expected: tuple[StatusRule, ...] = ("2xx",)
    timeout: float | None = None  # seconds; None is the queue's
    retry: RetryOverrides | None = None  # field by field over the queue's policy
    key: str | None = None  # pushing it again returns this task
    unique: str | None = None  # one task with this value waits in a queue
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    on_success: str | None = None  # URL of the callback; None is the queue's
    on_dead: str | None = None
    schedule: str | None = None
    expires_at: Moment | None = None
    forced: bool = False  # has a manual run: ignores pauses
    cancelled: bool = False  # running, and will not be retried
    state: TaskState = TaskState.WAITING
    reason: Reason | None = None
    ended_at: Moment | None = None
    round: int = 1
    attempt_count: int = 0  # attempts of this round
    attempt_total: int = 0  # attempts of all rounds
    last_status: int | None = None
    last_error: str | None = None

    def upgraded(self) -> Task:
        """Return the task with a delivery form instead of ``envelope``, its earlier member."""
        if self.unknown is UNSET or _ENVELOPE not in self.unknown:
            return self
        others = {name: raw for name, raw in self.unknown.items() if name != _ENVELOPE}
        is_envelope = bytes(self.unknown[_ENVELOPE]) == b"true"
        return msgspec.structs.replace(
            self,
            delivery=DeliveryForm.ENVELOPE if is_envelope else DeliveryForm.PLAIN,
            unknown=others or UNSET,
        )

    @property
    def lane(self) -> Lane:
        """The queue and origin that the task counts for."""
        return Lane(self.queue, origin_of(self.url), self.forced)

    @property
    def is_planned(self) -> bool:
        """Whether it still waits for the delay or the ``run_at`` that its push asked for."""
        is_new = self.round == 1 and self.attempt_count == 0
        return is_new and not self.forced and self.run_at > self.created_at

    @property
    def is_failing(self) -> bool:
        """Whether it waits or runs after a failed attempt of this round."""
        return self.ended_at is None and self.attempt_count > 0

    @property
    def failure_group(self) -> FailureGroup | None:
        """The group of similar failures; None if the task is neither failing nor dead."""
        if self.state is not TaskState.DEAD and not self.is_failing:
            return None
        error = self.last_error
        if self.last_status is None and error is None and self.reason is not None:
            error = self.reason.value
        return group_of(queue=self.queue, url=self.url, status=self.last_status, error=error)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one attempt. ``duration`` is in seconds."""

    round: int
    number: int
    request_id: str
    started_at: Moment
    duration: float
    succeeded: bool
    status: int | None = None
    error: str | None = None
    cause: str | None = None  # a ``Cause``, or one that only a newer version knows
    response_body: bytes = b""
    response_truncated: bool = False
    key_sent: bool | None = None  # None if there was no key to send
    progress: Progress | None = None  # the last report of its handler

    @property
    def summary(self) -> str | None:
        """The failure in one line: the error, or the beginning of the answer."""
        return self.error or first_line(self.response_body) or None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an attempt: an answer with a status, or an error."""

    status: int | None = None
    error: str | None = None
    body: bytes = b""
    truncated: bool = False
    retry_after: float | None = None  # seconds from now, as the answer asked
    refused: bool = False  # the answer said not to try again
    redirect: str | None = None  # the error message for a redirect, if its status is a failure
    cause: Cause | None = None  # of the error

    @property
    def unreachable(self) -> bool:
        """Whether the origin could not be connected to."""
        return self.cause in UNREACHABLE

    @property
    def unknown_host(self) -> bool:
        """Whether the name of the host does not exist."""
        return self.cause is Cause.UNKNOWN_HOST

    @property
    def out_of_resources(self) -> bool:
        """Whether this machine had no descriptor, memory or port left."""
        return self.cause in EXHAUSTED


class Complete(msgspec.Struct, frozen=True):
    """The task is done."""


class RetryAt(msgspec.Struct, frozen=True):
    """The attempt failed; the task waits for another."""

    run_at: Moment


class Bury(msgspec.Struct, frozen=True):
    """The task is dead."""

    reason: Reason
    error: str | None = None  # when there is no attempt that has it


Move = Complete | RetryAt | Bury


def moved(task: Task, move: Move, attempt: Attempt | None, *, now: Moment) -> Task:
    """Return a task after its attempt ended; without ``attempt``, no attempt is counted.

    A task that was cancelled while it ran is dead instead of being retried.
    """
    changes: dict[str, object] = {"state": TaskState.WAITING, "cancelled": False}
    if attempt is not None:
        changes["attempt_count"] = task.attempt_count + 1
        changes["attempt_total"] = task.attempt_total + 1
        changes["last_status"] = attempt.status
        changes["last_error"] = None if attempt.succeeded else attempt.summary
    elif isinstance(move, Bury) and move.error is not None:
        changes |= {"last_status": None, "last_error": move.error}
    if isinstance(move, Complete):
        changes["state"] = TaskState.SUCCEEDED
        changes["ended_at"] = now
    elif isinstance(move, Bury):
        changes |= {"state": TaskState.DEAD, "reason": move.reason, "ended_at": now}
    elif task.cancelled:
        changes |= {"state": TaskState.DEAD, "reason": Reason.CANCELLED, "ended_at": now}
    else:
        changes |= {"run_at": move.run_at, "forced": False}
    return msgspec.structs.replace(task, **changes)


def put_back(task: Task, error: str | None, *, now: Moment) -> Task:
    """Return a running task as waiting after an attempt that does not count.

    If the clock was set back meanwhile, it is due at once, unless its push asked for a delay or a
    ``run_at``. A task that was cancelled while it ran is dead.
    """
    changes: dict[str, object] = {"state": TaskState.WAITING}
    if error is not None:
        changes |= {"last_status": None, "last_error": error}
    if task.run_at > now + SECOND and not task.is_planned and not task.cancelled:
        changes["run_at"] = now
    waiting = msgspec.structs.replace(task, **changes)
    return buried(waiting, Reason.CANCELLED, now=now) if task.cancelled else waiting


def buried(task: Task, reason: Reason, *, now: Moment) -> Task:
    """Return a waiting task as dead."""
    return msgspec.structs.replace(
        task, state=TaskState.DEAD, reason=reason, ended_at=now, cancelled=False
    )


def next_move(
    task: Task,
    outcome: Outcome,
    policy: RetryPolicy,
    *,
    now: Moment,
    random: Random,
    confirmed: Moment | None = None,
) -> Complete | RetryAt | Bury:
    """Return the next move of a task after an attempt that counts.

    ``confirmed``, if it is earlier than ``now``, decides whether the task is too old or expired.
    """
    unconfirmed = 0 if confirmed is None else max(0, now - confirmed)
    status = outcome.status
    if status is not None and outcome.error is None:
        if matches(status, task.expected):
            return Complete()
        if outcome.refused or matches(status, policy.dead_on):
            return Bury(Reason.REFUSED)
    attempt = task.attempt_count + 1
    if attempt >= policy.max_attempts:
        return Bury(Reason.EXHAUSTED)
    age = seconds_between(task.due_at, Moment(now - unconfirmed))
    if policy.max_age is not None and age >= policy.max_age:
        return Bury(Reason.TOO_OLD)
    run_at = later(now, backoff(policy, attempt, random))
    if outcome.retry_after is not None:
        run_at = max(run_at, later(now, min(outcome.retry_after, policy.max_retry_after)))
    if task.expires_at is not None and run_at - unconfirmed > task.expires_at:
        return Bury(Reason.EXPIRED)
    return RetryAt(run_at)
