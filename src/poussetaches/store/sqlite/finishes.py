"""Writing the ends of attempts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.task import PutBack, TaskState, moved
from poussetaches.store.base import EARLIER_RESPONSE, MAX_ATTEMPTS_KEPT, Change, Finish
from poussetaches.store.sqlite import tasks
from poussetaches.store.sqlite.isolation import Defect, each, give_up_task
from poussetaches.store.sqlite.leases import Held
from poussetaches.store.sqlite.many import write_rows
from poussetaches.store.sqlite.rows import attempt_values
from poussetaches.store.sqlite.transaction import SqliteTransaction, Step


class TimedFinish(msgspec.Struct, frozen=True, gc=False):
    """The end of an attempt, and when it is recorded."""

    finish: Finish
    now: Moment


def finish(tx: SqliteTransaction, items: Sequence[TimedFinish]) -> Sequence[bool]:
    """Record the ends of attempts; return which leases were still ours."""
    return each(
        tx,
        Step.RECORD,
        items,
        lambda some: _finish(tx, some),
        give_up=lambda item, defect: _give_up(tx, item, defect),
    )


def _finish(tx: SqliteTransaction, items: Sequence[TimedFinish]) -> Sequence[bool]:
    were_ours, changes = [], []
    for item in items:
        held = tx.held(item.finish.lease.token)
        were_ours.append(held is not None)
        if held is not None:
            tx.give_up(held.seq)
            changes.append(_changed(tx, item, held))
    tasks.record(tx, changes)
    _record_attempts(tx, changes)
    return were_ours


def _give_up(tx: SqliteTransaction, item: TimedFinish, defect: Defect) -> bool:
    held = tx.held(item.finish.lease.token)
    if held is None:
        return False
    tx.give_up(held.seq)
    attempts = 0 if item.finish.attempt is None else 1
    give_up_task(tx, held.seq, defect, now=item.now, attempts=attempts)
    return True


def _changed(tx: SqliteTransaction, item: TimedFinish, held: Held) -> tasks.Changed:
    finish, now = item.finish, item.now
    old = finish.lease.task
    if tx.is_cancelled(held):
        old = msgspec.structs.replace(old, cancelled=True)
    new = moved(old, finish.move, finish.attempt, now=finish.ended_at or now)
    if new.state is TaskState.SUCCEEDED:
        change = Change.SUCCEEDED
    elif new.state is TaskState.DEAD:
        change = Change.DIED
    else:
        change = Change.PUT_BACK if isinstance(finish.move, PutBack) else Change.FAILED
    return tasks.Changed(held.seq, old, new, change, now, finish.attempt)


def _record_attempts(tx: SqliteTransaction, changes: Sequence[tasks.Changed]) -> None:
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
    write_rows(tx.connection, tx.sql["add_attempt"], rows)
    tx.connection.executemany(tx.sql["cut_attempt"], earlier)
    tx.connection.executemany(tx.sql["drop_attempt"], surplus)
