"""All that a store holds, as records: what an export consists of, whatever kind the store is.

In this order they can be put into an empty store one after another. Moments are microseconds
since 1970, bytes are base64. Leases, lanes, labels' indexes, failure groups and counts follow from
these, and are not among them.
"""

from __future__ import annotations

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Queue
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Task
from poussetaches.store.minute_row import MinuteRow


class ValueRecord(msgspec.Struct, frozen=True, kw_only=True, tag="server"):
    """Something that the server itself keeps, as its pause."""

    name: str
    value: str


class QueueRecord(msgspec.Struct, frozen=True, kw_only=True, tag="queue"):
    """A queue with its settings and its pause."""

    queue: Queue


class OwnerRecord(msgspec.Struct, frozen=True, kw_only=True, tag="owner"):
    """Who declared schedules, and which version of them last."""

    name: str
    version: int


class ScheduleRecord(msgspec.Struct, frozen=True, kw_only=True, tag="schedule"):
    """A schedule with what it fired last."""

    schedule: Schedule


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True, tag="task"):
    """A task with its attempts, oldest first, and their numbers over all its rounds."""

    task: Task
    failed_at: Moment | None = None  # when its last attempt failed, or it died
    attempts: list[Attempt] = []
    ordinals: list[int] = []


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, tag="key"):
    """What an idempotency key stands for; ``content`` is a digest of what was pushed."""

    queue: str
    key: str
    task_id: str
    content: bytes
    expires_at: Moment


class MinuteRecord(msgspec.Struct, frozen=True, kw_only=True, tag="minute"):
    """What happened in a minute."""

    minute: MinuteRow


class UnreadableRecord(msgspec.Struct, frozen=True, kw_only=True, tag="unreadable"):
    """A row that could not be read, whole, as JSON."""

    found_at: Moment
    origin_table: str
    reason: str
    content: str


Record = (
    ValueRecord
    | QueueRecord
    | OwnerRecord
    | ScheduleRecord
    | TaskRecord
    | KeyRecord
    | MinuteRecord
    | UnreadableRecord
)
