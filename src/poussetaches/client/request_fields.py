"""Fields of requests, with the names of the protocol. Omitted ones have the server's defaults.

Durations are seconds, as numbers or as ``timedelta``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

import msgspec

from poussetaches.client.durations import Seconds

State = Literal["waiting", "running", "succeeded", "dead"]
Method = Literal["POST", "PUT", "PATCH", "GET", "DELETE", "HEAD", "OPTIONS"]
OnConflict = Literal["keep", "replace"]
Expected = Sequence[int | str]  # statuses, and classes such as "2xx"


class Retry(TypedDict, total=False):
    """Fields of the retry policy."""

    max_attempts: int
    min_backoff: Seconds
    multiplier: float
    max_backoff: Seconds | None
    jitter: float
    max_age: Seconds | None
    max_retry_after: Seconds
    dead_on: Sequence[int | str]


class RetryInfo(TypedDict, total=False):
    """Fields of the retry policy in responses. Times are seconds."""

    max_attempts: int
    min_backoff: float
    multiplier: float
    max_backoff: float | None
    jitter: float
    max_age: float | None
    max_retry_after: float
    dead_on: Sequence[int | str]


class Retention(TypedDict, total=False):
    """The maximum number and age of ended tasks; the first limit reached applies."""

    count: int
    age: Seconds


class Filter(TypedDict, total=False):
    """Conditions that select tasks; all must be met. Moments need a time zone.

    ``label`` is ``name:value``, ``url`` a prefix of URLs, ``group`` a failure group's id.
    """

    ids: Sequence[str]
    state: State | Sequence[State]
    failing: bool
    queue: str
    label: str | Sequence[str]
    url: str
    key: str
    schedule: str
    reason: str
    group: str
    text: str
    since: datetime
    until: datetime
    ended_since: datetime
    ended_until: datetime


class CommonFields(TypedDict, total=False):
    """Fields of pushes, templates, patches and options of tasks, with the same type in all."""

    priority: int | None
    timeout: Seconds | None


class RunFields(TypedDict, total=False):
    """Fields of pushes and options of pushes that schedules do not have."""

    delay: Seconds | None
    run_at: datetime | None
    key: str | None
    unique: str | None
    on_conflict: OnConflict | None
    expires_at: datetime | None


class _Task(CommonFields, total=False):
    json: Any
    text: str | None
    headers: Mapping[str, str]
    method: Method | None
    expected: Expected | None
    retry: Retry | None
    on_success: str | None
    on_dead: str | None
    labels: Mapping[str, str]


class PushFields(_Task, RunFields, total=False):
    """The fields of a push except its URL.

    One of ``json``, ``text`` and ``body`` is the request's body; moments have a time zone.
    """

    body: bytes | None
    queue: str | None
    key_ttl: Seconds | None


class NewTask(msgspec.Struct, frozen=True):
    """A task to push; a field that is None is not sent. The fields are those of ``PushFields``."""

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


class TaskPatch(CommonFields, total=False):
    """Changes of a task (RFC 7396): None resets, and removes from an object."""

    url: str
    json: Any
    text: str | None
    body_base64: str | None
    headers: Mapping[str, str | None] | None
    method: Method | None
    expected: Expected | None
    retry: Mapping[str, Any] | None
    run_at: datetime | None
    expires_at: datetime | None
    on_success: str | None
    on_dead: str | None
    labels: Mapping[str, str | None] | None


class QueueLimits(TypedDict, total=False):
    """Settings of a queue without callbacks. ``rate`` is a number per second, or ``"100/h"``."""

    rate: float | str | None
    burst: int | None
    concurrency: int | None
    origin_concurrency: int | None
    timeout: Seconds | None
    retry: Retry | None
    base_url: str | None
    keep_succeeded: Retention | None
    keep_dead: Retention | None


class QueueFields(QueueLimits, total=False):
    """Settings of a queue; callbacks are URLs or paths."""

    on_success: str | None
    on_dead: str | None


class TaskTemplate(_Task, total=False):
    """The task of a schedule: a push, without the fields that differ between runs."""

    url: str
    body_base64: str | None
    queue: str | None


class ScheduleFields(TypedDict, total=False):
    """A schedule. ``timezone`` is UTC when it is left out."""

    cron: str
    timezone: str | None
    task: TaskTemplate
    misfire: Literal["once", "skip", "all"] | None
    misfire_grace: Seconds | None
    overlap: Literal["skip", "allow"] | None


class DeclaredSchedule(ScheduleFields, total=False):
    """One schedule of an owner's set."""

    name: str
