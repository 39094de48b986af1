"""Writes of tasks: new, changed and deleted ones. All writes of tasks use these functions.

With the rows go their counts, labels, failure groups and callbacks, and the news of them. None
of it touches memory but through the transaction, which may be rolled back and repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from poussetaches.core.callback import callback_of
from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane, QueueOverrides
from poussetaches.core.task import Attempt, Task, TaskState
from poussetaches.store.base import Change
from poussetaches.store.sqlite.bulk_insert import insert_rows
from poussetaches.store.sqlite.row_reader import as_list
from poussetaches.store.sqlite.rows import (
    attempt_values,
    differences,
    is_minimal,
    minimal_values,
    progress_values,
    state_values,
    task_values,
)
from poussetaches.store.sqlite.transaction import Counted, SqliteTransaction

MOST_BYTES = 8 * 1024 * 1024  # of bodies in one transaction: keeps it under ~50 ms


class Changed(msgspec.Struct, frozen=True, gc=False):
    """The old and the new version of a task, and the attempt that ended, if any."""

    seq: int
    old: Task
    new: Task
    change: Change
    now: Moment
    attempt: Attempt | None = None


class Success(NamedTuple):
    """The successful end of a task that has no callback."""

    seq: int
    task: Task  # as it was leased
    attempt: Attempt
    ended_at: Moment


def add(tx: SqliteTransaction, tasks: Sequence[Task]) -> Sequence[None]:
    """Add new tasks."""
    row = tx.connection.execute(tx.sql["last_number"]).fetchone()
    first = 1 if row is None else row[0] + 1
    minimal: list[tuple[object, ...]] = []
    minimal_queues: list[str] = []
    others: list[tuple[int, Task, Lane]] = []
    for seq, task in enumerate(tasks, start=first):
        lane = task.lane
        if is_minimal(task):
            minimal.append((seq, tx.lane_number(lane, task.created_at), *minimal_values(task)))
            minimal_queues.append(task.queue)
            tx.task_added(lane, seq, task)
            tx.task_changed(task, Change.PUSHED, TaskState.WAITING)
        else:
            others.append((seq, task, lane))
    insert_rows(tx.connection, tx.sql["add_minimal_task"], minimal)
    for queue, count in Counter(minimal_queues).items():
        tx.count(queue, "waiting", count)
    _add_others(tx, others)
    return [None] * len(tasks)


def _add_others(tx: SqliteTransaction, tasks: Sequence[tuple[int, Task, Lane]]) -> None:
    """Add new tasks with their numbers; any field may be set."""
    rows = [(seq, *row_values(tx, task, lane)) for seq, task, lane in tasks]
    insert_rows(tx.connection, tx.sql["add_task"], rows)
    add_labels(tx, [(seq, task) for seq, task, _ in tasks])
    for seq, task, lane in tasks:
        note_added(tx, seq, task, lane)


def restore(
    tx: SqliteTransaction,
    task: Task,
    attempts: Sequence[tuple[int, Attempt]],
    *,
    failed_at: Moment | None = None,
) -> bool:
    """Add a task with its numbered attempts as they are, unless its id exists; return whether."""
    lane = task.lane
    number, group, moment, *columns = row_values(tx, task, lane)
    values = (number, group, failed_at or moment, *columns)
    row = tx.connection.execute(tx.sql["restore_task"], values).fetchone()
    if row is None:
        return False
    seq = row[0]
    rows = [(seq, ordinal, *attempt_values(attempt)) for ordinal, attempt in attempts]
    tx.connection.executemany(tx.sql["add_attempt"], rows)
    add_labels(tx, [(seq, task)])
    note_added(tx, seq, task, lane)
    return True


def row_values(tx: SqliteTransaction, task: Task, lane: Lane) -> tuple[object, ...]:
    """Return a new task as its lane's number, its failure group and moment, and its columns."""
    number = tx.lane_number(lane, task.created_at)
    group = _group(tx, task)
    failed_at = None if group is None else task.ended_at or task.created_at
    return (number, group, failed_at, *task_values(task))


def add_labels(tx: SqliteTransaction, tasks: Iterable[tuple[int, Task]]) -> None:
    """Add the labels of tasks to the index."""
    rows = [(name, value, seq) for seq, task in tasks for name, value in task.labels.items()]
    insert_rows(tx.connection, tx.sql["add_label"], rows)


def note_added(tx: SqliteTransaction, seq: int, task: Task, lane: Lane) -> None:
    """Count a new task, and add it to the news."""
    for what in _counted(task):
        tx.count(task.queue, what, 1)
    if task.ended_at is None:
        tx.task_added(lane, seq, task)
    tx.task_changed(task, Change.PUSHED, task.state)


def succeed(tx: SqliteTransaction, successes: Sequence[Success]) -> None:
    """Write tasks whose attempt ended well: most do, and little of them changes."""
    rows: list[tuple[object, ...]] = []
    queues: list[str] = []
    for seq, task, attempt, ended_at in successes:
        error = None if attempt.succeeded else attempt.summary
        counts = task.attempt_count + 1, task.attempt_total + 1
        rows.append((seq, ended_at, *counts, attempt.status, error))
        queues.append(task.queue)
        if task.attempt_count:
            tx.count(task.queue, "failing", -1)
        tx.task_changed(task, Change.SUCCEEDED, TaskState.SUCCEEDED)
    insert_rows(tx.connection, tx.sql["succeed_tasks"], rows)
    for queue, count in Counter(queues).items():
        tx.count(queue, "waiting", -count)
        tx.count(queue, "succeeded", count)


def record(tx: SqliteTransaction, changes: Sequence[Changed]) -> None:
    """Write the progress of tasks: state, moments, attempts and errors."""
    if not changes:
        return
    moved: list[tuple[object, ...]] = []
    put_off: list[tuple[object, ...]] = []
    for changed in changes:
        seq, old, new = changed.seq, changed.old, changed.new
        waits_in = new.lane
        lane = _new_lane(tx, changed, waits_in)
        failure = _failure(tx, changed)
        state = state_values(new)
        if lane is None and new.ended_at is None and state == state_values(old):
            put_off.append((*failure, *progress_values(new), seq))
        else:
            moved.append((lane, *failure, *state, *progress_values(new), seq))
        _note_moved(tx, changed, waits_in)
    tx.connection.executemany(tx.sql["move_task"], moved)
    tx.connection.executemany(tx.sql["put_off_task"], put_off)
    _add_callbacks(tx, changes)


def _add_callbacks(tx: SqliteTransaction, changes: Sequence[Changed]) -> None:
    """Add the callbacks of tasks that have ended."""
    callbacks = [
        callback
        for changed in changes
        if changed.new.ended_at is not None and changed.old.ended_at is None
        if (callback := _callback(tx, changed)) is not None
    ]
    if callbacks:
        add(tx, callbacks)


def rewrite(tx: SqliteTransaction, changes: Sequence[Changed]) -> None:
    """Write changed tasks: the columns that differ.

    Tasks with the same differences are written by one statement.
    """
    alike: dict[tuple[str, ...], dict[tuple[object, ...], list[int]]] = {}
    for changed in changes:
        lane = changed.new.lane
        columns = _differences(tx, changed, lane)
        by_values = alike.setdefault(tuple(columns), {})
        by_values.setdefault(tuple(columns.values()), []).append(changed.seq)
        _note_moved(tx, changed, lane)
    for names, by_values in alike.items():
        if names:
            rows = [(*values, as_list(numbers)) for values, numbers in by_values.items()]
            tx.connection.executemany(_update_of(names), rows)
    _relabel(tx, changes)
    _add_callbacks(tx, changes)


def _differences(tx: SqliteTransaction, changed: Changed, lane: Lane) -> dict[str, object]:
    """Return the columns of a task that change, with their new values."""
    columns = differences(changed.old, changed.new)
    number = _new_lane(tx, changed, lane)
    if number is not None:
        columns["lane"] = number
    if _is_grouped(changed.old) or _is_grouped(changed.new):
        columns["failure_group"], failed_at = _failure(tx, changed)
        if failed_at is not None:
            columns["failed_at"] = failed_at
    return columns


def _relabel(tx: SqliteTransaction, changes: Sequence[Changed]) -> None:
    relabeled = [changed for changed in changes if changed.new.labels != changed.old.labels]
    passed = [(changed.seq,) for changed in relabeled if changed.old.labels]
    tx.connection.executemany(tx.sql["delete_labels"], passed)
    add_labels(tx, [(changed.seq, changed.new) for changed in relabeled])


@lru_cache
def _update_of(columns: tuple[str, ...]) -> str:
    marks = ", ".join(f"{name} = ?" for name in columns)
    return f"UPDATE tasks SET {marks} WHERE seq IN (SELECT value FROM json_each(?))"  # noqa: S608 - of our own texts


def delete(tx: SqliteTransaction, tasks: Iterable[tuple[int, Task]]) -> None:
    """Delete tasks of any state; the lease of a running one is ended.

    Their keys are freed, so that a deleted task can be pushed again.
    """
    found = list(tasks)
    delete_rows(tx, [seq for seq, _ in found])
    keys = [(task.queue, task.key, task.id) for _, task in found if task.key is not None]
    tx.connection.executemany(tx.sql["free_key"], keys)
    for seq, task in found:
        tx.end_lease(seq)
        for what in _counted(task):
            tx.count(task.queue, what, -1)
        tx.task_changed(task, Change.DELETED, None)


def delete_rows(tx: SqliteTransaction, numbers: Iterable[int]) -> None:
    """Delete tasks with all that belongs to them; the caller updates the counts."""
    rows = [(seq,) for seq in numbers]
    for statement in ("delete_attempts", "delete_labels", "delete_task"):
        tx.connection.executemany(tx.sql[statement], rows)


def fitting(tx: SqliteTransaction, numbers: Sequence[int]) -> Sequence[int]:
    """Return the first of some tasks: as many as one transaction should delete or write.

    To change a row is to write its body anew, and to delete it is to read it.
    """
    sizes: dict[int, int] = {row[0]: row[1] for row in tx.reading.all("sizes", as_list(numbers))}
    return first_fitting(numbers, sizes)


def first_fitting(numbers: Sequence[int], sizes: Mapping[int, int]) -> Sequence[int]:
    """Return the first of some tasks that together are not too large for one transaction."""
    total = 0
    for place, seq in enumerate(numbers):
        total += sizes.get(seq, 0)
        if place and total > MOST_BYTES:
            return numbers[:place]
    return numbers


def _new_lane(tx: SqliteTransaction, changed: Changed, lane: Lane) -> int | None:
    """Return the number of the lane that a task waits in from now on, None if it has none new."""
    old, new = changed.old, changed.new
    if new.ended_at is not None:
        return None
    same = old.url == new.url and old.queue == new.queue and old.forced == new.forced
    if old.ended_at is None and same:
        return None
    return tx.lane_number(lane, changed.now)


def _failure(tx: SqliteTransaction, changed: Changed) -> tuple[str | None, Moment | None]:
    """Return a task's failure group, and when it failed if it just did."""
    old, new = changed.old, changed.new
    group = _group(tx, new)
    if group is None:
        return None, None
    has_failed = new.attempt_total != old.attempt_total or new.ended_at != old.ended_at
    return group, changed.now if has_failed else None


def _note_moved(tx: SqliteTransaction, changed: Changed, lane: Lane) -> None:
    """Update the counts for a changed task, and add the change to the news."""
    seq, new = changed.seq, changed.new
    _recount(tx, changed.old, new)
    is_leased = tx.is_leased(seq)
    if new.ended_at is None and not is_leased:
        tx.task_waits(lane, new.run_at)
    if new.cancelled and is_leased:
        tx.cancel(seq)
    tx.task_changed(new, changed.change, TaskState.RUNNING if is_leased else new.state)


def _is_grouped(task: Task) -> bool:
    return task.state is TaskState.DEAD or task.is_failing


def _group(tx: SqliteTransaction, task: Task) -> str | None:
    group = task.failure_group
    return None if group is None else tx.group_id(group)


def _counted(task: Task) -> tuple[Counted, ...]:
    """Return the counts of its queue that a task is in."""
    if task.state is TaskState.SUCCEEDED:
        return ("succeeded",)
    if task.state is TaskState.DEAD:
        return ("dead",)
    return ("waiting", "failing") if task.is_failing else ("waiting",)


def _recount(tx: SqliteTransaction, old: Task, new: Task) -> None:
    before, after = _counted(old), _counted(new)
    if before == after and old.queue == new.queue:
        return
    for what in before:
        tx.count(old.queue, what, -1)
    for what in after:
        tx.count(new.queue, what, 1)


def may_have_callback(tx: SqliteTransaction, task: Task) -> bool:
    """Return whether a callback may be made when a task ends."""
    if task.on_success or task.on_dead:
        return True
    queue = tx.queue(task.queue)
    return queue is not None and bool(queue.overrides.on_success or queue.overrides.on_dead)


def _callback(tx: SqliteTransaction, changed: Changed) -> Task | None:
    task = changed.new
    if not may_have_callback(tx, task):
        return None
    queue = tx.queue(task.queue)
    overrides = QueueOverrides() if queue is None else queue.overrides
    attempt = changed.attempt or tx.reading.attempt("last_attempt", changed.seq)
    return callback_of(task, attempt, overrides, id=tx.new_id(changed.now), now=changed.now)
