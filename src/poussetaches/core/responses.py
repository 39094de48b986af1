"""Fields of the API's responses, shared by the API that writes them and clients that read them.

``M`` is the type of moments: text in the API, ``datetime`` in clients. The API narrows some types,
such as a state to its enum. Clients keep them wide and add defaults, so that they can read the
responses of other versions.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec
from msgspec import UnsetType

M = TypeVar("M")


class TaskResponse(msgspec.Struct, Generic[M], frozen=True):
    """A task, without its headers and body.

    Fields are not keyword-only: lists pass them by position, which is faster.
    """

    id: str
    queue: str
    state: str
    reason: str | None
    url: str
    method: str
    priority: int
    expected: tuple[int | str, ...]
    timeout: float | None
    retry: object  # the fields of the retry policy that the task overrides
    key: str | None
    unique: str | None
    labels: dict[str, str]
    on_success: str | None
    on_dead: str | None
    schedule: str | None
    created_at: M
    run_at: M
    expires_at: M | None
    ended_at: M | None
    round: int
    attempt_count: int
    last_status: int | None
    last_error: str | None


class WaitResponse(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """A reason to wait, and the end of the wait if it is known. Lists omit ``detail``."""

    reason: str
    until: M | None
    detail: str | UnsetType
    count: int | UnsetType | None


class TemplateResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The task of every run of a schedule."""

    url: str
    method: str
    headers: dict[str, str]
    json: object
    text: str | UnsetType | None
    body_base64: str | UnsetType | None
    queue: str
    priority: int
    expected: tuple[int | str, ...]
    timeout: float | None
    retry: object
    on_success: str | None
    on_dead: str | None
    labels: dict[str, str]


class BatchAnswer(msgspec.Struct, frozen=True):
    """The ids of the tasks in the order of the pushes, and the indexes of the existing ones."""

    ids: list[str]
    existing: list[int]


class Skipped(msgspec.Struct, frozen=True):
    """Tasks that were skipped, by reason: their state, ``changed`` meanwhile, or a refusal."""

    reason: str
    count: int


class Purged(msgspec.Struct, frozen=True):
    """The number of deleted tasks."""

    count: int


class ServerPause(msgspec.Struct, frozen=True):
    """Whether the server is paused."""

    paused: bool


class ProgressResponse(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """The progress that a handler reported at ``at``."""

    done: int | float
    total: int | float | None
    note: str | None
    at: M


class AttemptResponse(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """An attempt. ``duration`` is in seconds."""

    round: int
    number: int
    request_id: str
    started_at: M
    duration: float
    status: int | None
    error: str | None
    cause: str | None
    response_body: str
    response_truncated: bool
    auth_key: str | None  # "sent", "withheld", or None if the server has no key


class FailureGroupResponse(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """A failure group: its size, its first and last task, and an example."""

    group: str
    queue: str
    url_path: str
    status: int | None
    error: str
    count: int
    first_at: M
    last_at: M
    example_id: str


class QueueResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A queue's effective settings. ``rate`` is in attempts per second."""

    name: str
    paused: bool
    rate: float | None
    burst: int
    concurrency: int
    origin_concurrency: int | None
    timeout: float
    retry: object
    base_url: str | None
    on_success: str | None
    on_dead: str | None
    keep_succeeded: object
    keep_dead: object


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The number of tasks of a queue in each state. Failing tasks are waiting or running."""

    waiting: int = 0
    running: int = 0
    succeeded: int = 0
    dead: int = 0
    failing: int = 0


class OccurrenceResponse(msgspec.Struct, Generic[M], frozen=True):
    """A moment at which a schedule is due, in UTC and in its time zone."""

    utc: M
    local: M


class ScheduleResponse(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """A schedule."""

    name: str
    owner: str | None
    cron: str
    timezone: str
    task: object
    misfire: str
    misfire_grace: float | None
    overlap: str
    paused: bool
    created_at: M
    next_runs: object
    last_run_at: M | None
    last_task_id: str | None


class MinuteResponse(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """The activity in the minute that began at ``minute``. Durations are seconds."""

    minute: M
    pushed: int
    started: int
    succeeded: int
    failed: int
    died: int
    lateness_p50: float | None
    lateness_p95: float | None
    duration_p50: float | None
    duration_p95: float | None


class HeldOrigin(msgspec.Struct, frozen=True):
    """An origin on hold, and the error of the last connection."""

    origin: str
    error: str


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the store."""

    used_bytes: int
    free_bytes: int | None
    trouble: str | None


class StatsResponse(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """The server's state and recent activity."""

    now: M
    counts: object
    oldest_due_age: float | None  # seconds
    in_flight: int
    paused: bool
    clock_leap: float | None  # seconds that the clock is ahead of the confirmed time
    held_origins: object
    store: object
    minutes: object


class RefusedSchedule(msgspec.Struct, frozen=True):
    """A declared schedule that was refused; ``field`` is "" if its name was refused."""

    name: str
    field: str
    reason: str
