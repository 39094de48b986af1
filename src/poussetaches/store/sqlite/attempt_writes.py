"""Writes that end leases: the outcomes of attempts, and leases given back without an attempt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import msgspec
from msgspec.structs import astuple

from poussetaches.core.moment import Moment
from poussetaches.core.task import Complete, Task, TaskState, moved, put_back
from poussetaches.store.base import EARLIER_RESPONSE, MAX_ATTEMPTS_KEPT, Change, Finish, Lease
from poussetaches.store.sqlite import task_writes
from poussetaches.store.sqlite.bulk_insert import insert_rows
from poussetaches.store.sqlite.isolation import Defect, give_up_task, write_rows
from poussetaches.store.sqlite.leases import LeaseRecord
from poussetaches.store.sqlite.rows import attempt_values
from poussetaches.store.sqlite.transaction import SqliteTransaction, Step


class FinishCall(msgspec.Struct, frozen=True, gc=False):
    """The end of one attempt, and when it is recorded."""

    finish: Finish
    now: Moment


class GiveBackCall(msgspec.Struct, frozen=True, gc=False):
    """The arguments of ``give_back``."""

    lease: Lease
    now: Moment
    error: str | None = None


def finish(tx: SqliteTransaction, calls: Sequence[Sequence[FinishCall]]) -> list[list[bool]]:
    """Record the ends of attempts; return for each whether its lease was still valid."""
    were_valid = iter(
        write_rows(
            tx,
            Step.RECORD,
            [item for call in calls for item in call],
            lambda some: _finish(tx, some),
            give_up=lambda item, defect: _give_up(
                tx,
                item.finish.lease,
                defect,
                item.now,
                attempts=int(item.finish.attempt is not None),
            ),
        )
    )
    return [list(islice(were_valid, len(call))) for call in calls]


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
    were_valid: list[bool] = []
    successes: list[task_writes.Success] = []
    changes: list[task_writes.Changed] = []
    for item in items:
        record = _ended_lease(tx, item.finish.lease)
        were_valid.append(record is not None)
        if record is None:
            continue
        success = _success(tx, item, record.seq)
        if success is None:
            changes.append(_changed(tx, item, record))
        else:
            successes.append(success)
    task_writes.succeed(tx, successes)
    task_writes.record(tx, changes)
    _record_attempts(tx, successes, changes)
    return were_valid


def _success(tx: SqliteTransaction, item: FinishCall, seq: int) -> task_writes.Success | None:
    """Return the end of a task that succeeded and has no callback, as most do."""
    lease, move, attempt, ended_at = astuple(item.finish)
    if attempt is None or not isinstance(move, Complete):
        return None
    if task_writes.may_have_callback(tx, lease.task):
        return None
    return task_writes.Success(seq, lease.task, attempt, ended_at or item.now)


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


def _record_attempts(
    tx: SqliteTransaction,
    successes: Sequence[task_writes.Success],
    changes: Sequence[task_writes.Changed],
) -> None:
    ended = [(seq, task.attempt_total + 1, attempt) for seq, task, attempt, _ in successes]
    ended += [
        (changed.seq, changed.old.attempt_total + 1, changed.attempt)
        for changed in changes
        if changed.attempt is not None
    ]
    rows = [(seq, ordinal, *attempt_values(attempt)) for seq, ordinal, attempt in ended]
    insert_rows(tx.connection, tx.sql["add_attempt"], rows)
    earlier = [
        {"task": seq, "ordinal": ordinal - 1, "keep": EARLIER_RESPONSE}
        for seq, ordinal, _ in ended
        if ordinal > 1
    ]
    if not earlier:
        return
    tx.connection.executemany(tx.sql["cut_attempt"], earlier)
    surplus = [
        (seq, ordinal - MAX_ATTEMPTS_KEPT // 2)
        for seq, ordinal, _ in ended
        if ordinal > MAX_ATTEMPTS_KEPT
    ]
    tx.connection.executemany(tx.sql["drop_attempt"], surplus)
