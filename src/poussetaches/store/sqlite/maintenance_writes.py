"""Writes of maintenance: burial of expired tasks, pruning, deletion of unneeded rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import astuple

from poussetaches.core.moment import DAY, SECOND, Moment
from poussetaches.core.queue import Retention
from poussetaches.core.task import Reason, buried
from poussetaches.store.base import Change
from poussetaches.store.minute_row import MinuteRow
from poussetaches.store.sqlite import task_writes
from poussetaches.store.sqlite.isolation import give_up_row, give_up_task, write_rows
from poussetaches.store.sqlite.row_reader import Unreadable
from poussetaches.store.sqlite.transaction import (
    LANE_USE_PRECISION,
    Counted,
    Fate,
    SqliteTransaction,
    Step,
)
from poussetaches.store.sqlite.unreadable_rows import clear_away


class ExpireCall(NamedTuple):
    """The arguments of ``expire``."""

    now: Moment
    limit: int
    confirmed: Moment  # tasks past this moment have expired


class PruneCall(NamedTuple):
    """The arguments of ``prune``."""

    queue: str
    state: Counted
    keep: Retention
    now: Moment
    limit: int


class TidyCall(NamedTuple):
    """The arguments of ``tidy``; ``limit`` is for each kind of row."""

    now: Moment
    limit: int


def bury(tx: SqliteTransaction, numbers: Sequence[int], reason: Reason, *, now: Moment) -> None:
    """Bury waiting tasks; set aside unreadable ones."""
    write_rows(
        tx,
        Step.BURY,
        numbers,
        lambda some: _bury(tx, some, reason, now),
        give_up=lambda seq, defect: give_up_task(tx, seq, defect, now=now),
    )


def _bury(
    tx: SqliteTransaction, numbers: Sequence[int], reason: Reason, now: Moment
) -> Sequence[Fate | None]:
    changes = []
    for seq in numbers:
        old = tx.reading.light_task(seq)
        if old is not None:
            new = buried(old, reason, now=now)
            changes.append(task_writes.Changed(seq, old, new, Change.DIED, now))
    clear_away(tx, now)
    task_writes.record(tx, changes)
    return [None] * len(numbers)


def bury_cancelled(tx: SqliteTransaction, items: Sequence[Moment]) -> Sequence[None]:
    """Bury tasks that were cancelled while running, and whose attempt the process's end cut off.

    This is the first commit after a start. It is synced, so that it fails on a read-only disk.
    """
    tx.sync()
    for now in items:
        rows = tx.connection.execute(tx.sql["cancelled_tasks"]).fetchall()
        bury(tx, [seq for (seq,) in rows], Reason.CANCELLED, now=now)
    return [None] * len(items)


def expire(tx: SqliteTransaction, items: Sequence[ExpireCall]) -> Sequence[int]:
    """Bury waiting tasks past their ``expires_at``; return the number of buried tasks."""
    counts = []
    for item in items:
        # Leased and abandoned tasks may come first, and must not hide the others.
        abandoned = tx.abandoned()
        row_limit = item.limit + len(tx.leased()) + len(abandoned)
        limits = (item.confirmed, row_limit)
        found = tx.connection.execute(tx.sql["expired_tasks"], limits).fetchall()
        waiting = [seq for (seq,) in found if not tx.is_leased(seq) and seq not in abandoned]
        numbers = task_writes.fitting(tx, waiting[: item.limit])
        bury(tx, numbers, Reason.EXPIRED, now=item.now)
        counts.append(len(numbers))
    return counts


def prune(tx: SqliteTransaction, items: Sequence[PruneCall]) -> Sequence[int]:
    """Delete ended tasks past their retention; return the number of deleted tasks."""
    return [_prune_one(tx, item) for item in items]


def tidy(tx: SqliteTransaction, items: Sequence[TidyCall]) -> Sequence[int]:
    """Delete unneeded keys, minutes, lanes, queues and failure groups; return their number."""
    return [_tidy_one(tx, item.now, item.limit) for item in items]


def _prune_one(tx: SqliteTransaction, item: PruneCall) -> int:
    too_old = item.now - item.keep.age * SECOND
    surplus = tx.counts(item.queue)[item.state] - item.keep.count
    abandoned = tx.abandoned()
    oldest = tx.connection.execute(
        tx.sql["ended_tasks"], (item.queue, item.state, item.limit + len(abandoned))
    ).fetchall()
    passed = [
        seq
        for place, (seq, ended_at) in enumerate(oldest)
        if (place < surplus or ended_at <= too_old) and seq not in abandoned
    ]
    numbers = task_writes.fitting(tx, passed[: item.limit])
    write_rows(
        tx,
        Step.PRUNE,
        numbers,
        lambda some: _delete_ended(tx, item, some),
        give_up=lambda seq, defect: give_up_row(
            tx, Unreadable("tasks", seq, defect.text), defect, now=item.now
        ),
    )
    return len(numbers)


def _delete_ended(
    tx: SqliteTransaction, item: PruneCall, numbers: Sequence[int]
) -> Sequence[Fate | None]:
    task_writes.delete_rows(tx, numbers)
    tx.count(item.queue, item.state, -len(numbers))
    return [None] * len(numbers)


def _tidy_one(tx: SqliteTransaction, now: Moment, limit: int) -> int:
    a_day_ago = now - DAY
    count = 0
    for statement, moment in (
        ("delete_passed_keys", now),
        ("delete_passed_minutes", a_day_ago),
        ("delete_full_buckets", now),
    ):
        count += tx.connection.execute(tx.sql[statement], (moment, limit)).rowcount
    # A lane's last use is only stored with this precision.
    unused_since = a_day_ago - LANE_USE_PRECISION
    lanes = tx.reading.lanes("idle_lanes", unused_since, limit)
    for number, lane in lanes.items():
        tx.delete_lane(lane, number)
    # A queue whose name is not UTF-8 stays, for `verify` to report.
    idle = [name for name in tx.reading.names("idle_queues", limit) if isinstance(name, str)]
    queues = [name for name in idle if not any(tx.counts(name).values())]
    for name in queues:
        tx.delete_queue(name)
    groups = tx.reading.names("idle_failure_groups", limit)
    for id in groups:
        tx.delete_group(id)
    return count + len(lanes) + len(queues) + len(groups)


def put_minutes(tx: SqliteTransaction, calls: Sequence[Sequence[MinuteRow]]) -> Sequence[None]:
    for rows in calls:
        tx.connection.executemany(tx.sql["put_minute"], map(astuple, rows))
    return [None] * len(calls)


def set_paused(tx: SqliteTransaction, values: Sequence[bool]) -> Sequence[None]:
    for paused in values:
        tx.connection.execute(tx.sql["put_server_value"], ("paused", "1" if paused else "0"))
        tx.news.paused = paused
    return [None] * len(values)
