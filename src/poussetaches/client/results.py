"""Values of the server's answers, and of pushes.

Unknown fields are ignored: a newer server may send more than this client knows.
Moments are aware datetimes in UTC, durations and ages are seconds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypedDict

import msgspec

from poussetaches.client.request_fields import RetryInfo, State
from poussetaches.core.progress_report import LARGEST_AMOUNT
from poussetaches.core.responses import (
    AttemptResponse,
    FailureGroupResponse,
    HeldOrigin,
    MinuteResponse,
    OccurrenceResponse,
    ProgressResponse,
    QueueCounts,
    QueueResponse,
    RefusedSchedule,
    ScheduleResponse,
    Skipped,
    StatsResponse,
    StoreState,
    TaskResponse,
    TemplateResponse,
    WaitResponse,
)


class ProgressReport(msgspec.Struct, frozen=True):
    """The progress of a handler: ``done`` of ``total``, in any unit, and a note for people."""

    done: float
    total: float | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        for name, amount in (("done", self.done), ("total", self.total)):
            if not _is_amount(amount) and (name, amount) != ("total", None):
                raise ValueError(f"progress: {name} is {amount!r}; use a number from 0 to 2**53")
        if not isinstance(self.note, str | None):
            raise ValueError(f"progress: note is {self.note!r}; use a str")


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= LARGEST_AMOUNT


class ProgressInfo(ProgressResponse[datetime], frozen=True, kw_only=True):
    """The progress that a handler reported at ``at``: ``done`` of ``total``, in any unit."""

    done: float
    total: float | None


class AttemptInfo(AttemptResponse[datetime], frozen=True, kw_only=True):
    """An attempt. Without an answer, ``status`` is None and ``error`` is the reason.

    With a status, ``error`` is the problem of the answer: it was cut short, or is a redirect.
    """

    progress: ProgressInfo | None = None  # reported last
    cause: str | None = None  # of the error; None if the server is older
    node: str | None = None


class LastAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """The last attempt of an ended task, as callbacks report it.

    ``error`` is None if the attempt succeeded; otherwise it is what was wrong, or the first line
    of the response.
    """

    number: int
    request_id: str
    started_at: datetime
    duration: float
    status: int | None = None
    error: str | None = None


class EndedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that succeeded or died: the argument of a task function that is a callback.

    ``queue`` is the server's name of the task's queue. Headers and body are not included. The
    server sends every field; the defaults are for tests of callbacks.
    """

    id: str
    url: str
    state: Literal["succeeded", "dead"]
    queue: str = "default"
    reason: str | None = None  # why it died, as in "exhausted"; None if it succeeded
    labels: dict[str, str] = {}
    attempt_count: int = 0
    last_attempt: LastAttempt | None = None  # None if no attempt was made

    @property
    def name(self) -> str:
        """The name of a task function: the last segment of its URL."""
        return self.url.partition("?")[0].rpartition("/")[2]

    @property
    def error(self) -> str | None:
        """The error of the last attempt; None if it succeeded or there was none."""
        return None if self.last_attempt is None else self.last_attempt.error


class WaitInfo(WaitResponse[datetime], frozen=True, kw_only=True):
    """A reason why a task or a queue waits, and until when, if known. Lists omit ``detail``."""

    detail: str = ""
    count: int | None = None


class RetentionInfo(TypedDict):
    """The maximum number and age of ended tasks; ``age`` is in seconds."""

    count: int
    age: float


class TaskInfo(TaskResponse[datetime], frozen=True, kw_only=True):
    """A task. ``retry`` has what the task sets of its policy, the rest is its queue's.

    Lists leave out headers and body. ``waiting_for`` is set in lists and on a task requested by
    its id, ``attempts`` only on the latter. The body is in the form in which it was pushed.
    """

    state: State
    priority: int = 0
    expected: tuple[int | str, ...] = ("2xx",)
    reason: str | None = None
    timeout: float | None = None
    retry: RetryInfo | None = None
    key: str | None = None
    unique: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    on_success: str | None = None
    on_dead: str | None = None
    schedule: str | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    last_status: int | None = None
    last_error: str | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    json: Any = None
    text: str | None = None
    body_base64: str | None = None
    attempts: tuple[AttemptInfo, ...] = ()
    waiting_for: tuple[WaitInfo, ...] = ()
    progress: ProgressInfo | None = None  # of the running attempt

    @property
    def has_ended(self) -> bool:
        """Whether it succeeded or is dead."""
        return self.state in ("succeeded", "dead")


class TaskPage(msgspec.Struct, frozen=True):
    """A page of a list of tasks, and the cursor of the next page."""

    tasks: tuple[TaskInfo, ...]
    next_cursor: str | None


class PushedTask(msgspec.Struct, frozen=True):
    """The result of a push. ``existing``: an earlier push had created the task.

    ``task`` is None after ``push_many``, and if the existing task was pruned.
    """

    id: str
    existing: bool
    task: TaskInfo | None = None


class BulkResult(msgspec.Struct, frozen=True):
    """The number of tasks that were changed, or would be, and the skipped ones by reason."""

    count: int
    skipped: tuple[Skipped, ...] = ()


class FailureGroup(FailureGroupResponse[datetime], frozen=True, kw_only=True):
    """A group of similar dead or failing tasks; ``group`` can be used in filters."""


class FailureList(msgspec.Struct, frozen=True):
    """The failure groups, the largest first."""

    groups: tuple[FailureGroup, ...]


class QueueInfo(QueueResponse, frozen=True, kw_only=True):
    """A queue with its effective settings and its state. ``rate`` is in attempts per second."""

    retry: RetryInfo
    keep_succeeded: RetentionInfo
    keep_dead: RetentionInfo
    counts: QueueCounts
    oldest_due_age: float | None
    waiting_for: tuple[WaitInfo, ...]
    sources: dict[str, Any] = msgspec.field(
        default_factory=dict
    )  # as in the protocol; older servers answer none


class QueueList(msgspec.Struct, frozen=True):
    """Every queue, by name."""

    queues: tuple[QueueInfo, ...]


class Occurrence(OccurrenceResponse[datetime], frozen=True):
    """A moment at which a schedule is due; ``local`` has the offset of its time zone."""


class TemplateInfo(TemplateResponse, frozen=True, kw_only=True):
    """The task of a schedule; None means the default of the queue or the server."""

    priority: int = 0
    expected: tuple[int | str, ...] = ("2xx",)
    timeout: float | None = None
    retry: RetryInfo | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    on_success: str | None = None
    on_dead: str | None = None
    json: Any = None
    text: str | None = None
    body_base64: str | None = None


class ScheduleInfo(ScheduleResponse[datetime], frozen=True, kw_only=True):
    """A schedule, and its next runs."""

    task: TemplateInfo
    next_runs: tuple[Occurrence, ...]
    sources: dict[str, Any] = msgspec.field(
        default_factory=dict
    )  # as in the protocol; older servers answer none


class ScheduleList(msgspec.Struct, frozen=True):
    """Schedules, by name."""

    schedules: tuple[ScheduleInfo, ...]


class DeclaredSchedules(ScheduleList, frozen=True):
    """The schedules of an owner, and the declared ones that the server refused."""

    refused: tuple[RefusedSchedule, ...] = ()


class Preview(msgspec.Struct, frozen=True):
    """The next occurrences of an expression."""

    next_runs: tuple[Occurrence, ...]


class MinuteInfo(MinuteResponse[datetime], frozen=True, kw_only=True):
    """The activity in the minute that began at ``minute``."""


class StatsInfo(StatsResponse[datetime], frozen=True, kw_only=True):
    """The server's state and recent activity."""

    counts: QueueCounts
    held_origins: tuple[HeldOrigin, ...]
    store: StoreState
    clock_leap: float | None = None  # seconds; a server of an earlier version does not say
    minutes: tuple[MinuteInfo, ...]


class Event(msgspec.Struct, frozen=True):
    """An event; ``name`` and ``data`` are as in the protocol."""

    id: str
    name: str
    data: dict[str, Any]
