"""What the server answers, as values; and the task that is pushed.

Fields that are not known are passed over: a newer server may tell more than this client knows.
Moments are aware datetimes in UTC, durations and ages are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict

import msgspec

from poussetaches.client.durations import Seconds
from poussetaches.client.fields import Expected, Method, OnConflict, Retry, RetryInfo, State
from poussetaches.core.progress_report import LARGEST_AMOUNT


class NewTask(msgspec.Struct, frozen=True):
    """A task to push; None is not said. The fields are those of ``PushFields``."""

    url: str
    json: Any = None
    text: str | None = None
    body: bytes | None = None
    queue: str | None = None
    delay: Seconds | None = None
    run_at: datetime | None = None
    priority: int | None = None
    headers: Mapping[str, str] | None = None
    method: Method | None = None
    expected: Expected | None = None
    timeout: Seconds | None = None
    retry: Retry | None = None
    key: str | None = None
    key_ttl: Seconds | None = None
    unique: str | None = None
    on_conflict: OnConflict | None = None
    expires_at: datetime | None = None
    on_success: str | None = None
    on_dead: str | None = None
    labels: Mapping[str, str] | None = None


class ProgressReport(msgspec.Struct, frozen=True):
    """How far a handler has come: ``done`` of ``total``, in any unit, and a note for people."""

    done: float
    total: float | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        for name, amount in (("done", self.done), ("total", self.total)):
            if not _is_amount(amount) and (name, amount) != ("total", None):
                raise ValueError(
                    f"progress: {name} is {amount!r}, and must be a number from 0 to 2**53"
                )
        if not isinstance(self.note, str | None):
            raise ValueError(f"progress: note is {self.note!r}, and must be a str")


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= LARGEST_AMOUNT


class ProgressInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler reported at ``at``: ``done`` of ``total``, in any unit."""

    done: float
    total: float | None
    note: str | None
    at: datetime


class AttemptInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt; ``status`` is None when no answer came, and ``error`` says why.

    With a status, ``error`` says what was wrong with the answer: it broke off, or is a redirect.
    """

    round: int
    number: int
    request_id: str
    started_at: datetime
    duration: float
    status: int | None
    error: str | None
    response_body: str
    response_truncated: bool
    auth_key: str | None  # "sent", "withheld", or None where the server has no key
    progress: ProgressInfo | None = None  # reported last
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
        """What was wrong with the last attempt; None if it succeeded or there was none."""
        return None if self.last_attempt is None else self.last_attempt.error


class WaitInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One of the reasons to wait, and until when, if that is known. Lists leave out ``detail``."""

    reason: str
    until: datetime | None
    detail: str = ""
    count: int | None = None


class RetentionInfo(TypedDict):
    """How many ended tasks are kept, and for how many seconds; whichever is reached first."""

    count: int
    age: float


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A task. ``retry`` has what the task sets of its policy, the rest is its queue's.

    Lists leave out headers and body. ``waiting_for`` is set in lists and on a task requested by
    its id, ``attempts`` only on the latter. The body is in the form in which it was pushed.
    """

    id: str
    queue: str
    state: State
    url: str
    method: str
    created_at: datetime
    run_at: datetime
    round: int
    attempt_count: int
    priority: int = 0
    expected: tuple[int | str, ...] = ("2xx",)
    reason: str | None = None
    timeout: float | None = None
    retry: RetryInfo | None = None
    key: str | None = None
    unique: str | None = None
    labels: dict[str, str] = {}
    on_success: str | None = None
    on_dead: str | None = None
    schedule: str | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    last_status: int | None = None
    last_error: str | None = None
    headers: dict[str, str] = {}
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
    """Some tasks of a list, and where the next page begins."""

    tasks: tuple[TaskInfo, ...]
    next_cursor: str | None


class PushedTask(msgspec.Struct, frozen=True):
    """What became of a push. ``existing``: a task that was pushed before answers for it.

    ``task`` is None after a push of many, and when the task that answers was pruned.
    """

    id: str
    existing: bool
    task: TaskInfo | None = None


class BatchResult(msgspec.Struct, frozen=True):
    """The ids of a batch, and the places of those that were there before."""

    ids: tuple[str, ...]
    existing: tuple[int, ...]


class SkippedInfo(msgspec.Struct, frozen=True):
    """How many tasks were left as they are, and why."""

    reason: str
    count: int


class BulkResult(msgspec.Struct, frozen=True):
    """How many tasks were changed, or would be, and which were not."""

    count: int
    skipped: tuple[SkippedInfo, ...] = ()


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Dead or failing tasks that are alike; ``group`` can be used in filters."""

    group: str
    queue: str
    url_path: str
    status: int | None
    error: str
    count: int
    first_at: datetime
    last_at: datetime
    example_id: str


class FailureList(msgspec.Struct, frozen=True):
    """The failure groups, the largest first."""

    groups: tuple[FailureGroup, ...]


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks are in each state; ``failing`` are waiting or running ones."""

    waiting: int
    running: int
    succeeded: int
    dead: int
    failing: int


class QueueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A queue: what holds for it, and how it does. ``rate`` is in attempts a second."""

    name: str
    paused: bool
    rate: float | None
    burst: int
    concurrency: int
    origin_concurrency: int | None
    timeout: float
    retry: RetryInfo
    base_url: str | None
    on_success: str | None
    on_dead: str | None
    keep_succeeded: RetentionInfo
    keep_dead: RetentionInfo
    counts: QueueCounts
    oldest_due_age: float | None
    waiting_for: tuple[WaitInfo, ...]
    origins: dict[str, Any] = {}  # as in the protocol; older servers answer none


class QueueList(msgspec.Struct, frozen=True):
    """Every queue, by name."""

    queues: tuple[QueueInfo, ...]


class Occurrence(msgspec.Struct, frozen=True):
    """A moment at which a schedule is due; ``local`` has the offset of its time zone."""

    utc: datetime
    local: datetime


class TemplateInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What every run of a schedule is; None is the queue's, or the server's."""

    url: str
    method: str
    queue: str
    priority: int = 0
    expected: tuple[int | str, ...] = ("2xx",)
    timeout: float | None = None
    retry: RetryInfo | None = None
    headers: dict[str, str] = {}
    labels: dict[str, str] = {}
    on_success: str | None = None
    on_dead: str | None = None
    json: Any = None
    text: str | None = None
    body_base64: str | None = None


class ScheduleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule, and its next runs."""

    name: str
    owner: str | None
    cron: str
    timezone: str
    task: TemplateInfo
    misfire: str
    misfire_grace: float | None
    overlap: str
    paused: bool
    created_at: datetime
    next_runs: tuple[Occurrence, ...]
    last_run_at: datetime | None
    last_task_id: str | None
    origins: dict[str, Any] = {}  # as in the protocol; older servers answer none


class ScheduleList(msgspec.Struct, frozen=True):
    """Schedules, by name."""

    schedules: tuple[ScheduleInfo, ...]


class RefusedSchedule(msgspec.Struct, frozen=True):
    """A declared schedule that the server refused; ``field`` is "" if it refused the name."""

    name: str
    field: str
    reason: str


class DeclaredSchedules(ScheduleList, frozen=True):
    """The schedules of an owner, and the declared ones that the server refused."""

    refused: tuple[RefusedSchedule, ...] = ()


class Preview(msgspec.Struct, frozen=True):
    """The next occurrences of an expression."""

    next_runs: tuple[Occurrence, ...]


class CountResult(msgspec.Struct, frozen=True):
    """How many tasks were deleted."""

    count: int


class PauseResult(msgspec.Struct, frozen=True):
    """Whether the server is paused."""

    paused: bool


class HeldOrigin(msgspec.Struct, frozen=True):
    """An origin that nothing is sent to, and why it could not be reached last."""

    origin: str
    error: str


class StoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How the store does."""

    used_bytes: int
    free_bytes: int | None
    trouble: str | None


class MinuteInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in the minute that began at ``minute``."""

    minute: datetime
    pushed: int
    started: int
    succeeded: int
    failed: int
    died: int
    lateness_p50: float | None
    lateness_p95: float | None
    duration_p50: float | None
    duration_p95: float | None


class StatsInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The server at a glance."""

    now: datetime
    counts: QueueCounts
    oldest_due_age: float | None
    in_flight: int
    paused: bool
    held_origins: tuple[HeldOrigin, ...]
    store: StoreInfo
    clock_leap: float | None = None  # seconds; a server of an earlier version does not say
    minutes: tuple[MinuteInfo, ...]


class Event(msgspec.Struct, frozen=True):
    """Something that happened; ``name`` and ``data`` are as the protocol has them."""

    id: str
    name: str
    data: dict[str, Any]
