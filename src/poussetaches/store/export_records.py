"""The records of an export, which are the same for every kind of store.

They can be inserted into an empty store in the order of an export. Moments are microseconds since
1970, bytes are base64. Leases, lanes, label indexes, failure groups and counts are derived from
the records, and not exported.
"""

from __future__ import annotations

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Queue
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Task
from poussetaches.store.minute_row import MinuteRow


class ValueRecord(msgspec.Struct, frozen=True, kw_only=True, tag="server"):
    """A value of the server itself, such as its pause."""

    name: str
    value: str


class QueueRecord(msgspec.Struct, frozen=True, kw_only=True, tag="queue"):
    """A queue with its settings and its pause."""

    queue: Queue


class OwnerRecord(msgspec.Struct, frozen=True, kw_only=True, tag="owner"):
    """An owner of schedules, and the version that it declared last."""

    name: str
    version: int


class ScheduleRecord(msgspec.Struct, frozen=True, kw_only=True, tag="schedule"):
    """A schedule with its last run."""

    schedule: Schedule


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True, tag="task"):
    """A task with its attempts, oldest first, and their numbers over all its rounds."""

    task: Task
    failed_at: Moment | None = None  # when its last attempt failed, or it died
    attempts: list[Attempt] = []
    ordinals: list[int] = []


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, tag="key"):
    """An idempotency key and its task; ``content`` is a digest of the push."""

    queue: str
    key: str
    task_id: str
    content: bytes
    expires_at: Moment


class MinuteRecord(msgspec.Struct, frozen=True, kw_only=True, tag="minute"):
    """The statistics of one minute."""

    minute: MinuteRow


class UnreadableRecord(msgspec.Struct, frozen=True, kw_only=True, tag="unreadable"):
    """An unreadable row: all its columns as JSON."""

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
