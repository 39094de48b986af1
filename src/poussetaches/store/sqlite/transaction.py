"""A transaction, with the changes to the state in memory that follow its commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from random import Random
from typing import Literal, NamedTuple, TypeVar, get_args

from poussetaches.core.failure_group import FailureGroup
from poussetaches.core.ids import new_task_id
from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.queue import Lane, Queue
from poussetaches.core.task import Task, TaskState
from poussetaches.store.base import Change, News, TaskChange
from poussetaches.store.sqlite.bulk_insert import insert_rows
from poussetaches.store.sqlite.cache import Cache, CachedLane
from poussetaches.store.sqlite.commit_number import number_commit
from poussetaches.store.sqlite.database import Commit
from poussetaches.store.sqlite.leases import LeaseRecord
from poussetaches.store.sqlite.row_reader import Reading, Unreadable
from poussetaches.store.sqlite.rows import queue_values

Counted = Literal["waiting", "failing", "succeeded", "dead"]
LOCK_TIMEOUT = 5_000  # milliseconds, the default of Python's connections
LANE_USE_PRECISION = HOUR  # storing the time of each task would cost another write

COUNTED: tuple[Counted, ...] = get_args(Counted)

D = TypeVar("D", "News", "Pending")


class Step(StrEnum):
    """A step at which a single row can fail; the value completes "failed while …"."""

    RECORD = "recording the outcome"
    GIVE_BACK = "putting the task back"
    BURY = "ending the task"
    PRUNE = "pruning the task"
    EDIT = "changing the task"
    REPLACE = "replacing the body"
    PULL_BACK = "correcting the time of the task"
    END_RUN = "ending the run of a deleted schedule"
    DELETE_SCHEDULE = "deleting the schedule"
    FIRE = "firing the schedule"
    RESTORE = "restoring the task"
    IMPORT = "importing the record"
    # Remedies, which can fail as well.
    BURY_FAILED = "burying the task that failed"
    SET_ASIDE = "setting the row aside"
    PAUSE_FAILED = "pausing the schedule that failed"


class Fate(StrEnum):
    """The result for a row that could not be processed."""

    BURIED = "buried"
    PAUSED = "paused"
    SET_ASIDE = "set aside"
    UNCHANGED = "left as it was"


class RowFailure(NamedTuple):
    """A row that could not be processed: its step, its error and its fate."""

    table: str
    key: int | str
    step: Step
    error: str
    stack: str
    fate: Fate


# Called for each row after each step, so that tests can make any of them fail.
RowFault = Callable[[Step, object], None]


@dataclass(slots=True)
class Pending:
    """Changes in memory that are made after the commit."""

    news: News = field(default_factory=News)
    set_aside: list[Unreadable] = field(default_factory=list)
    failures: list[RowFailure] = field(default_factory=list)
    lanes: dict[Lane, CachedLane | None] = field(default_factory=dict)
    added: list[tuple[Lane, int, Task]] = field(default_factory=list)  # in short lanes
    changed_lanes: set[Lane] = field(default_factory=set)  # of tasks that wait again
    groups: dict[str, bool] = field(default_factory=dict)
    counts: dict[str, dict[Counted, int]] = field(default_factory=dict)
    ended_leases: set[int] = field(default_factory=set)
    cancelled: set[int] = field(default_factory=set)
    abandoned: set[int] = field(default_factory=set)  # numbers of tasks

    def copy(self) -> Pending:
        """Return a copy with copies of all collections."""
        counts = {queue: copy(counts) for queue, counts in self.counts.items()}
        return replace(_with_copies(self), news=_with_copies(self.news), counts=counts)


def _with_copies(value: D) -> D:
    """Return a dataclass's value with copies of its fields."""
    return replace(value, **{each.name: copy(getattr(value, each.name)) for each in fields(value)})


class SqliteTransaction:
    """A transaction of the connection that writes.

    If a write fails, it is repeated in a transaction that ``isolates_rows``, so that a failing row
    does not affect the others (``isolation.write_rows``).
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        sql: Mapping[str, str],
        cache: Cache,
        *,
        random: Random,
        commit: Commit,
        isolates_rows: bool = False,
        waits: bool = True,
        row_fault: RowFault | None = None,
    ) -> None:
        self.connection = connection
        self.sql = sql
        self.isolates_rows = isolates_rows
        self.reading = Reading(connection, sql, self.is_leased)
        self._cache = cache
        self._random = random
        self._commit = commit
        self._row_fault = row_fault
        self._pending = Pending()
        self._begin(waits=waits)
        self._changes_before = connection.total_changes
        self._must_sync = False

    @property
    def news(self) -> News:
        """The news for listeners."""
        return self._pending.news

    @property
    def set_aside(self) -> list[Unreadable]:
        """The rows that were moved to ``unreadable``."""
        return self._pending.set_aside

    @property
    def failures(self) -> list[RowFailure]:
        """The rows that could not be processed."""
        return self._pending.failures

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo the block, in the database and in memory, if it raises."""
        kept, bad = self._pending.copy(), copy(self.reading.bad)
        self.connection.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            # After a disk error, SQLite has rolled back the whole transaction already.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO part")
                self.connection.execute("RELEASE part")
            self._pending, self.reading.bad = kept, bad
            raise
        self.connection.execute("RELEASE part")

    def reach(self, step: Step, rows: Sequence[object]) -> None:
        """Call ``row_fault``, which only tests set, for the rows that a step has processed."""
        if self._row_fault is not None:
            for row in rows:
                self._row_fault(step, row)

    def new_id(self, now: Moment) -> str:
        """Return an id for a task that the store creates."""
        return new_task_id(now, self._random)

    def count(self, queue: str, what: Counted, change: int) -> None:
        """Add to a queue's counts."""
        counts = self._pending.counts.setdefault(queue, {})
        counts[what] = counts.get(what, 0) + change

    def counts(self, queue: str) -> dict[Counted, int]:
        """Return a queue's counts after this transaction."""
        row = self.connection.execute(self.sql["queue_counts"], (queue,)).fetchone()
        stored = row or (0,) * len(COUNTED)
        added = self._pending.counts.get(queue, {})
        return {what: stored[place] + added.get(what, 0) for place, what in enumerate(COUNTED)}

    def task_added(self, lane: Lane, seq: int, task: Task) -> None:
        """Note a new task that waits."""
        self._note_wait(lane, task.run_at)
        if lane in self._cache.short_lanes:
            self._pending.added.append((lane, seq, task))

    def task_waits(self, lane: Lane, run_at: Moment) -> None:
        """Note that a task waits again, or otherwise than before."""
        self._note_wait(lane, run_at)
        self._pending.changed_lanes.add(lane)

    def _note_wait(self, lane: Lane, run_at: Moment) -> None:
        """Add the due time of a waiting task to the news."""
        waits = self._pending.news.waits
        earliest = waits.get(lane)
        if earliest is None or run_at < earliest:
            waits[lane] = run_at

    def task_changed(self, task: Task, change: Change, state: TaskState | None) -> None:
        """Add a change of a task to the news."""
        self._pending.news.tasks.append(TaskChange(task.id, task.queue, change, state))

    def is_leased(self, seq: int) -> bool:
        """Return whether a task is leased after this transaction."""
        return seq in self._cache.leases and seq not in self._pending.ended_leases

    def leased(self) -> list[int]:
        """Return the numbers of the tasks that are leased after this transaction."""
        ended_leases = self._pending.ended_leases
        return [seq for seq in self._cache.leases.numbers() if seq not in ended_leases]

    def end_lease(self, seq: int) -> None:
        """End the lease of a task at the commit."""
        self._pending.ended_leases.add(seq)

    def cancel(self, seq: int) -> None:
        """Mark a leased task as cancelled at the commit."""
        self._pending.cancelled.add(seq)

    def lease(self, token: int) -> LeaseRecord | None:
        """Return the record of a lease; None if it has ended."""
        record = self._cache.leases.find(token)
        return None if record is None or record.seq in self._pending.ended_leases else record

    def is_cancelled(self, record: LeaseRecord) -> bool:
        """Return whether a leased task was cancelled."""
        return record.cancelled or record.seq in self._pending.cancelled

    def abandon(self, seq: int) -> None:
        """Ignore a task until the next start, because every remedy failed."""
        self.end_lease(seq)
        self._pending.abandoned.add(seq)

    def abandoned(self) -> set[int]:
        """Return the numbers of the abandoned tasks."""
        return self._cache.abandoned | self._pending.abandoned

    def queue(self, name: str) -> Queue | None:
        """Return a queue as it is after this transaction."""
        if name in self.news.queues:
            return self.news.queues[name]
        return self._cache.queues.get(name)

    def put_queue(self, queue: Queue) -> None:
        """Store a new or changed queue."""
        self.connection.execute(self.sql["put_queue"], queue_values(queue))
        self.news.queues[queue.name] = queue

    def delete_queue(self, name: str) -> None:
        """Delete a queue without tasks, and its lanes."""
        lanes = self._pending.lanes
        for lane in [lane for lane in (*self._cache.lanes, *lanes) if lane.queue == name]:
            lanes[lane] = None
        self.connection.execute(self.sql["delete_lanes_of"], (name,))
        self.connection.execute(self.sql["delete_queue"], (name,))
        self.news.queues[name] = None

    def lane_number(self, lane: Lane, used_at: Moment) -> int:
        """Return the number of a lane; create the lane and its queue if they are new."""
        lanes = self._pending.lanes
        cached = lanes[lane] if lane in lanes else self._cache.lanes.get(lane)
        if cached is None or used_at - cached.used_at > LANE_USE_PRECISION:
            cached = lanes[lane] = CachedLane(self._use_lane(lane, used_at), used_at)
        return cached.number

    def delete_lane(self, lane: Lane, number: int) -> None:
        """Delete a lane without waiting tasks."""
        self.connection.execute(self.sql["delete_lane"], (number,))
        self._pending.lanes[lane] = None

    def group_id(self, group: FailureGroup) -> str:
        """Return the id of a failure group; store the group if it is new."""
        id, groups = group.id, self._pending.groups
        if not groups.get(id, id in self._cache.groups):
            values = (id, group.queue, group.url_path, group.status, group.error)
            if self.connection.execute(self.sql["add_failure_group"], values).rowcount:
                self.news.groups.append(group)
            groups[id] = True
        return id

    def delete_group(self, id: str | bytes) -> None:
        """Delete a failure group without tasks."""
        self.connection.execute(self.sql["delete_failure_group"], (id,))
        if isinstance(id, str):
            self._pending.groups[id] = False

    def sync(self) -> None:
        """Sync the commit even if no row is written."""
        self._must_sync = True

    def commit(self) -> None:
        """Commit."""
        added = [
            (queue, *[changes.get(what, 0) for what in COUNTED])
            for queue, changes in self._pending.counts.items()
            if any(changes.values())
        ]
        insert_rows(self.connection, self.sql["count"], added)
        if self._must_sync or self._has_written:
            number_commit(self.connection)
            self._commit(self.connection)
        else:
            self.connection.execute("COMMIT")  # no changes, so no sync

    def apply(self) -> None:
        """Update the cache after the commit."""
        cache, pending = self._cache, self._pending
        cache.update_queues(pending.news.queues)
        cache.update_lanes(pending.lanes)
        cache.update_groups(pending.groups)
        for added in pending.added:
            cache.short_lanes.add(*added)
        for lane in pending.changed_lanes:
            cache.short_lanes.drop(lane)
        cache.abandoned |= pending.abandoned
        for seq in pending.ended_leases:
            cache.leases.end(seq)
        for seq in pending.cancelled:
            cache.leases.cancel(seq)

    def rollback(self) -> None:
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is unusable; recovery opens a new one.
            return

    @property
    def _has_written(self) -> bool:
        """Whether any row was written, even if that was undone."""
        return self.connection.total_changes != self._changes_before

    def _begin(self, *, waits: bool) -> None:
        if waits:
            self.connection.execute("BEGIN IMMEDIATE")
            return
        self.connection.execute("PRAGMA busy_timeout = 0")
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT}")

    def _use_lane(self, lane: Lane, used_at: Moment) -> int:
        if self.queue(lane.queue) is None:
            self.put_queue(Queue(name=lane.queue))
        row = self.connection.execute(self.sql["use_lane"], (*lane, used_at)).fetchone()
        number: int = row[0]
        return number
