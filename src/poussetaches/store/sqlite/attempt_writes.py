"""Writes that end leases: the outcomes of attempts, and leases given back without an attempt."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.task import Task, TaskState, moved, put_back
from poussetaches.store.base import EARLIER_RESPONSE, MAX_ATTEMPTS_KEPT, Change, Finish, Lease
from poussetaches.store.sqlite import task_writes
from poussetaches.store.sqlite.bulk_insert import insert_rows
from poussetaches.store.sqlite.isolation import Defect, give_up_task, write_rows
from poussetaches.store.sqlite.leases import LeaseRecord
from poussetaches.store.sqlite.rows import attempt_values
from poussetaches.store.sqlite.transaction import SqliteTransaction, Step


class FinishCall(msgspec.Struct, frozen=True, gc=False):
    """The arguments of ``finish``."""

    finish: Finish
    now: Moment


class GiveBackCall(msgspec.Struct, frozen=True, gc=False):
    """The arguments of ``give_back``."""

    lease: Lease
    now: Moment
    error: str | None = None


def finish(tx: SqliteTransaction, items: Sequence[FinishCall]) -> Sequence[bool]:
    """Record the ends of attempts; return for each whether its lease was still valid."""
    return write_rows(
        tx,
        Step.RECORD,
        items,
        lambda some: _finish(tx, some),
        give_up=lambda item, defect: _give_up(
            tx, item.finish.lease, defect, item.now, attempts=int(item.finish.attempt is not None)
        ),
    )


def give_back(tx: SqliteTransaction, items: Sequence[GiveBackCall]) -> Sequence[bool]:
    """End leases without an attempt; return for each whether it was still valid."""
    return write_rows(
        tx,
        Step.GIVE_BACK,
        items,
        lambda some: _give_back(tx, some),
        give_up=lambda item, defect: _give_up(tx, item.lease, defect, item.now),
    )


def _finish(tx: SqliteTransaction, items: Sequence[FinishCall]) -> Sequence[bool]:
    were_valid, changes = [], []
    for item in items:
        record = _ended_lease(tx, item.finish.lease)
        were_valid.append(record is not None)
        if record is not None:
            changes.append(_changed(tx, item, record))
    task_writes.record(tx, changes)
    _record_attempts(tx, changes)
    return were_valid


def _give_back(tx: SqliteTransaction, items: Sequence[GiveBackCall]) -> Sequence[bool]:
    were_valid, changes = [], []
    for item in items:
        record, now = _ended_lease(tx, item.lease), item.now
        were_valid.append(record is not None)
        if record is None:
            continue
        old = _leased_task(tx, item.lease, record)
        new = put_back(old, item.error, now=now)
        if new == item.lease.task:
            # Perhaps too early, never too late: ``pull_back`` may have changed the row's run_at.
            tx.task_waits(new.lane, min(new.run_at, now))
            tx.task_changed(new, Change.PUT_BACK, new.state)
            continue
        change = Change.PUT_BACK if new.ended_at is None else Change.DIED
        changes.append(task_writes.Changed(record.seq, old, new, change, now))
    task_writes.record(tx, changes)
    return were_valid


def _ended_lease(tx: SqliteTransaction, lease: Lease) -> LeaseRecord | None:
    """End a lease and return its record; None if it was no longer valid."""
    record = tx.lease(lease.token)
    if record is not None:
        tx.end_lease(record.seq)
    return record


def _give_up(
    tx: SqliteTransaction, lease: Lease, defect: Defect, now: Moment, *, attempts: int = 0
) -> bool:
    record = _ended_lease(tx, lease)
    if record is not None:
        give_up_task(tx, record.seq, defect, now=now, attempts=attempts)
    return record is not None


def _leased_task(tx: SqliteTransaction, lease: Lease, record: LeaseRecord) -> Task:
    """Return a leased task, marked as cancelled if it was cancelled while it ran."""
    if tx.is_cancelled(record):
        return msgspec.structs.replace(lease.task, cancelled=True)
    return lease.task


def _changed(tx: SqliteTransaction, item: FinishCall, record: LeaseRecord) -> task_writes.Changed:
    finish, now = item.finish, item.now
    old = _leased_task(tx, finish.lease, record)
    new = moved(old, finish.move, finish.attempt, now=finish.ended_at or now)
    if new.state is TaskState.SUCCEEDED:
        change = Change.SUCCEEDED
    elif new.state is TaskState.DEAD:
        change = Change.DIED
    else:
        change = Change.FAILED
    return task_writes.Changed(record.seq, old, new, change, now, finish.attempt)


def _record_attempts(tx: SqliteTransaction, changes: Sequence[task_writes.Changed]) -> None:
    rows, earlier, surplus = [], [], []
    for changed in changes:
        seq, attempt, ordinal = changed.seq, changed.attempt, changed.old.attempt_total + 1
        if attempt is None:
            continue
        rows.append((seq, ordinal, *attempt_values(attempt)))
        if ordinal > 1:
            earlier.append({"task": seq, "ordinal": ordinal - 1, "keep": EARLIER_RESPONSE})
        if ordinal > MAX_ATTEMPTS_KEPT:
            surplus.append((seq, ordinal - MAX_ATTEMPTS_KEPT // 2))
    insert_rows(tx.connection, tx.sql["add_attempt"], rows)
    tx.connection.executemany(tx.sql["cut_attempt"], earlier)
    tx.connection.executemany(tx.sql["drop_attempt"], surplus)
