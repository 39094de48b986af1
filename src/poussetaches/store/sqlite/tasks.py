"""Writing tasks: each function writes many items of one kind in a transaction.

None of them touches memory but through the transaction, which may be undone and tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Retention
from poussetaches.core.task import (
    Attempt,
    Bury,
    Complete,
    PutBack,
    Reason,
    RetryAt,
    Task,
    TaskState,
)
from poussetaches.store.base import EARLIER_RESPONSE, MAX_ATTEMPTS_KEPT, Finish
from poussetaches.store.sqlite.leases import Held
from poussetaches.store.sqlite.rows import attempt_values, task_values
from poussetaches.store.sqlite.transaction import Counted, SqliteTransaction


class TimedFinish(NamedTuple):
    """The end of an attempt, and when it is recorded."""

    finish: Finish
    now: Moment


class Pruning(NamedTuple):
    """Which ended tasks of a queue are to go."""

    queue: str
    state: Counted
    keep: Retention
    now: Moment
    limit: int


class Expiring(NamedTuple):
    """Which waiting tasks are to be buried."""

    now: Moment
    limit: int


def add(tx: SqliteTransaction, tasks: Sequence[Task]) -> Sequence[None]:
    """Add new tasks."""
    rows = [(tx.lane_number(task.lane, task.created_at), *task_values(task)) for task in tasks]
    tx.connection.executemany(tx.sql["add_task"], rows)
    for task in tasks:
        _count_added(tx, task)
    return [None] * len(tasks)


def restore(
    tx: SqliteTransaction, items: Sequence[tuple[Task, Sequence[Attempt]]]
) -> Sequence[bool]:
    """Add tasks with their attempts, unless their id is known; tell which were new."""
    return [_restore_one(tx, task, attempts) for task, attempts in items]


def _restore_one(tx: SqliteTransaction, task: Task, attempts: Sequence[Attempt]) -> bool:
    values = (tx.lane_number(task.lane, task.created_at), *task_values(task))
    row = tx.connection.execute(tx.sql["restore_task"], values).fetchone()
    if row is None:
        return False
    first = task.attempt_total - len(attempts) + 1
    tx.connection.executemany(
        tx.sql["add_attempt"],
        [
            (row[0], ordinal, *attempt_values(attempt))
            for ordinal, attempt in enumerate(attempts, start=first)
        ],
    )
    _count_added(tx, task)
    return True


def _count_added(tx: SqliteTransaction, task: Task) -> None:
    if task.state in (TaskState.SUCCEEDED, TaskState.DEAD):
        tx.count(task.queue, "dead" if task.state is TaskState.DEAD else "succeeded", 1)
        return
    tx.count(task.queue, "waiting", 1)
    if task.attempt_count:
        tx.count(task.queue, "failing", 1)
    tx.task_waits(task.lane, task.run_at)


def finish(tx: SqliteTransaction, items: Sequence[TimedFinish]) -> Sequence[bool]:
    """Record the ends of attempts; tell which leases were still ours."""
    were_ours, ours = [], []
    for item in items:
        held = tx.held(item.finish.lease.token)
        were_ours.append(held is not None)
        if held is not None:
            tx.give_up(held.seq)
            ours.append((item, held))
    tx.connection.executemany(tx.sql["move_task"], [_moved(tx, item, held) for item, held in ours])
    _record_attempts(tx, ours)
    return were_ours


def _moved(tx: SqliteTransaction, item: TimedFinish, held: Held) -> tuple[object, ...]:
    task, move, attempt = item.finish.lease.task, item.finish.move, item.finish.attempt
    if tx.is_cancelled(held) and isinstance(move, RetryAt | PutBack):
        move = Bury(Reason.CANCELLED)
    state, reason, run_at, ended_at = "waiting", None, task.run_at, None
    match move:
        case Complete():
            state, ended_at = "succeeded", item.now
        case Bury():
            state, reason, ended_at = "dead", move.reason.value, item.now
        case RetryAt():
            run_at = move.run_at
        case PutBack():
            pass
    counted = 0 if attempt is None else 1
    _count_move(tx, task, state, failing=task.attempt_count + counted > 0)
    if state == "waiting":
        tx.task_waits(held.lane, run_at)
    status, error = task.last_status, task.last_error
    if attempt is not None:
        status, error = attempt.status, attempt.error
    elif isinstance(move, PutBack) and move.error is not None:
        status, error = None, move.error
    return (
        state,
        reason,
        run_at,
        ended_at,
        task.attempt_count + counted,
        task.attempt_total + counted,
        status,
        error,
        held.seq,
    )


def _count_move(tx: SqliteTransaction, task: Task, state: str, *, failing: bool) -> None:
    was_failing = task.attempt_count > 0
    if state == "waiting":
        tx.count(task.queue, "failing", int(failing) - int(was_failing))
        return
    tx.count(task.queue, "waiting", -1)
    tx.count(task.queue, "failing", -int(was_failing))
    tx.count(task.queue, "succeeded" if state == "succeeded" else "dead", 1)


def _record_attempts(tx: SqliteTransaction, ours: Sequence[tuple[TimedFinish, Held]]) -> None:
    rows, earlier, surplus = [], [], []
    for item, held in ours:
        attempt, ordinal = item.finish.attempt, item.finish.lease.task.attempt_total + 1
        if attempt is None:
            continue
        rows.append((held.seq, ordinal, *attempt_values(attempt)))
        if ordinal > 1:
            earlier.append({"task": held.seq, "ordinal": ordinal - 1, "keep": EARLIER_RESPONSE})
        if ordinal > MAX_ATTEMPTS_KEPT:
            surplus.append((held.seq, ordinal - MAX_ATTEMPTS_KEPT // 2))
    tx.connection.executemany(tx.sql["add_attempt"], rows)
    tx.connection.executemany(tx.sql["cut_attempt"], earlier)
    tx.connection.executemany(tx.sql["drop_attempt"], surplus)


def bury_waiting(
    tx: SqliteTransaction,
    rows: Sequence[tuple[int, str, int]],
    reason: Reason,
    *,
    now: Moment,
) -> None:
    """Bury waiting tasks, given as row, queue and attempt count."""
    for seq, queue, attempt_count in rows:
        tx.connection.execute(tx.sql["bury_task"], (reason.value, now, seq))
        tx.count(queue, "waiting", -1)
        tx.count(queue, "failing", -int(attempt_count > 0))
        tx.count(queue, "dead", 1)


def delete_waiting(tx: SqliteTransaction, rows: Sequence[tuple[int, str, int]]) -> None:
    """Delete waiting tasks with their attempts, given as row, queue and attempt count."""
    for seq, queue, attempt_count in rows:
        tx.connection.execute(tx.sql["delete_attempts"], (seq,))
        tx.connection.execute(tx.sql["delete_task"], (seq,))
        tx.count(queue, "waiting", -1)
        tx.count(queue, "failing", -int(attempt_count > 0))


def bury_cancelled(tx: SqliteTransaction, items: Sequence[Moment]) -> Sequence[None]:
    """Bury what was cancelled while it ran, and then cut off by the end of the process."""
    for now in items:
        rows = tx.connection.execute(tx.sql["cancelled_tasks"]).fetchall()
        bury_waiting(tx, rows, Reason.CANCELLED, now=now)
    return [None] * len(items)


def expire(tx: SqliteTransaction, items: Sequence[Expiring]) -> Sequence[int]:
    """Bury waiting tasks past their ``expires_at``; tell how many."""
    counts = []
    for item in items:
        # Leased ones may come first, and must not hide the rest.
        looked_at = item.limit + len(tx.leases)
        found = tx.connection.execute(tx.sql["expired_tasks"], (item.now, looked_at)).fetchall()
        rows = [row for row in found if not tx.is_leased(row[0])][: item.limit]
        bury_waiting(tx, rows, Reason.EXPIRED, now=item.now)
        counts.append(len(rows))
    return counts


def prune(tx: SqliteTransaction, items: Sequence[Pruning]) -> Sequence[int]:
    """Delete ended tasks past their retention; tell how many."""
    return [_prune_one(tx, item) for item in items]


def _prune_one(tx: SqliteTransaction, item: Pruning) -> int:
    too_old = item.now - item.keep.age * 1_000_000
    kept = tx.connection.execute(tx.sql["queue_counts"], (item.queue,)).fetchone()
    ended = 0 if kept is None else kept[0] if item.state == "succeeded" else kept[1]
    surplus = ended + tx.pending(item.queue, item.state) - item.keep.count
    oldest = tx.connection.execute(
        tx.sql["ended_tasks"], (item.queue, item.state, item.limit)
    ).fetchall()
    seqs = [
        (seq,)
        for place, (seq, ended_at) in enumerate(oldest)
        if place < surplus or ended_at <= too_old
    ]
    tx.connection.executemany(tx.sql["delete_attempts"], seqs)
    tx.connection.executemany(tx.sql["delete_task"], seqs)
    tx.count(item.queue, item.state, -len(seqs))
    return len(seqs)
