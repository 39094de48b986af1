"""Writes of pushes: new tasks, unless a push repeats an earlier one or replaces a body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from poussetaches.core.content_digest import content_digests
from poussetaches.core.errors import KeyConflict, PousseTachesError
from poussetaches.core.moment import Moment, later
from poussetaches.core.task import Attempt, Task
from poussetaches.store.base import Change, Push, PushResult
from poussetaches.store.sqlite import task_writes
from poussetaches.store.sqlite.isolation import (
    Defect,
    as_content,
    give_up_new,
    give_up_task,
    write_rows,
)
from poussetaches.store.sqlite.rows import text_of
from poussetaches.store.sqlite.transaction import SqliteTransaction, Step
from poussetaches.store.sqlite.unreadable_rows import clear_away

OVERHEAD = 2048  # bytes of memory for a push with a common URL and few headers


class PushCall(msgspec.Struct, frozen=True, gc=False):
    """The arguments of ``push``; all pushes of a call are added, or none."""

    pushes: Sequence[Push]
    now: Moment
    confirmed: Moment  # keys past this moment have expired

    @property
    def size(self) -> int:
        """The approximate size in memory, in bytes."""
        size = 0
        for push in self.pushes:
            size += OVERHEAD + len(push.task.body)
        return size

    @property
    def is_unconditional(self) -> bool:
        """Whether the call needs no search for earlier tasks."""
        for push in self.pushes:
            if push.task.key is not None or push.task.unique is not None:
                return False
        return True


def push(tx: SqliteTransaction, calls: Sequence[PushCall]) -> Sequence[list[PushResult]]:
    """Add new tasks, without a search for earlier ones."""
    task_writes.add(tx, [push.task for call in calls for push in call.pushes])
    return [[PushResult(push.task.id, push.task, False) for push in call.pushes] for call in calls]


def push_by_key(
    tx: SqliteTransaction, calls: Sequence[PushCall]
) -> Sequence[list[PushResult] | PousseTachesError]:
    """Add new tasks; for a call with a refused push, add none and return the error."""
    return [_push_one_by_one(tx, call) for call in calls]


Restored = tuple[Task, Sequence[Attempt]]


class RestoreCall(NamedTuple):
    """The arguments of ``restore``."""

    tasks: Sequence[Restored]
    now: Moment


def restore(tx: SqliteTransaction, calls: Sequence[RestoreCall]) -> Sequence[int]:
    """Add tasks with their attempts, unless their id exists; return the number of new ones."""
    return [_restore_call(tx, call) for call in calls]


def _push_one_by_one(tx: SqliteTransaction, call: PushCall) -> list[PushResult] | KeyConflict:
    # Before any write of this call: the writes of other calls must stay.
    conflict = _conflict(tx, call)
    if conflict is not None:
        return conflict
    return [_push_one(tx, push, call) for push in call.pushes]


def _conflict(tx: SqliteTransaction, call: PushCall) -> KeyConflict | None:
    contents: dict[tuple[str, str], bytes] = {}
    for place, push in enumerate(call.pushes):
        task = push.task
        if task.key is None:
            continue
        digests = content_digests(task)
        content = contents.get((task.queue, task.key))
        if content is None:
            row = _task_of_key(tx, task, call.confirmed)
            content = contents[task.queue, task.key] = digests[0] if row is None else row[1]
        if content not in digests:
            return KeyConflict(task.key, place)
    return None


def _push_one(tx: SqliteTransaction, push: Push, call: PushCall) -> PushResult:
    known = None if push.task.key is None else _task_of_key(tx, push.task, call.confirmed)
    if known is not None:
        task = tx.reading.task(known[0])
        clear_away(tx, call.now)
        return PushResult(known[0], task, True)
    pushed = _add(tx, push, call.now)
    if push.task.key is not None:
        expires_at = later(call.now, push.key_ttl)
        name = (push.task.queue, push.task.key)
        values = (*name, pushed.task_id, content_digests(push.task)[0], expires_at)
        tx.connection.execute(tx.sql["put_key"], values)
    return pushed


def _add(tx: SqliteTransaction, push: Push, now: Moment) -> PushResult:
    """Add a task, unless a task with the same ``unique`` is waiting."""
    found = None if push.task.unique is None else _waiting_duplicate(tx, push.task, now)
    if found is not None and push.replaces:
        [found] = write_rows(
            tx,
            Step.REPLACE,
            [found],
            lambda some: [_replace(tx, seq, was, push.task, now) for seq, was in some],
            give_up=lambda row, defect: _give_up(tx, row[0], defect, now),
        )
    if found is None:
        task_writes.add(tx, [push.task])
        return PushResult(push.task.id, push.task, False)
    _, waiting = found
    return PushResult(waiting.id, waiting, True)


def _replace(
    tx: SqliteTransaction, seq: int, was: Task, new: Task, now: Moment
) -> tuple[int, Task] | None:
    """Give a waiting task the body of a new one; return it."""
    waiting = _with_body_of(new, was)
    if waiting != was:
        task_writes.rewrite(tx, [task_writes.Changed(seq, was, waiting, Change.EDITED, now)])
    return seq, waiting


def _give_up(
    tx: SqliteTransaction, seq: int, defect: Defect, now: Moment
) -> tuple[int, Task] | None:
    """Bury a task whose body could not be replaced; the new task is then added."""
    give_up_task(tx, seq, defect, now=now)
    return None


def _waiting_duplicate(tx: SqliteTransaction, task: Task, now: Moment) -> tuple[int, Task] | None:
    """Return the waiting task with the same ``unique``; leased ones do not count."""
    rows = tx.connection.execute(tx.sql["unique_tasks"], (task.queue, task.unique)).fetchall()
    for (seq,) in rows:
        if tx.is_leased(seq):
            continue
        waiting = tx.reading.task_at(seq)
        clear_away(tx, now)
        if waiting is not None:
            return seq, waiting
    return None


def _with_body_of(new: Task, waiting: Task) -> Task:
    return msgspec.structs.replace(
        waiting,
        body=new.body,
        body_kind=new.body_kind,
        run_at=new.run_at,
        due_at=new.due_at,
    )


def _task_of_key(tx: SqliteTransaction, task: Task, confirmed: Moment) -> tuple[str, bytes] | None:
    """Return the id of the task with a key, and the digest of its push."""
    row = tx.reading.one("key", task.queue, task.key, confirmed)
    return None if row is None else (text_of(row[0]), row[1])


def _restore_call(tx: SqliteTransaction, call: RestoreCall) -> int:
    were_new = write_rows(
        tx,
        Step.RESTORE,
        call.tasks,
        lambda some: [_restore_one(tx, task, attempts) for task, attempts in some],
        give_up=lambda row, defect: _store_as_unreadable(tx, row, defect, call.now),
    )
    return sum(were_new)


def _store_as_unreadable(
    tx: SqliteTransaction, row: Restored, defect: Defect, now: Moment
) -> bool:
    give_up_new(tx, "tasks", row[0].id, as_content(row), defect, now=now)
    return False


def _restore_one(tx: SqliteTransaction, task: Task, attempts: Sequence[Attempt]) -> bool:
    first = task.attempt_total - len(attempts) + 1
    return task_writes.restore(tx, task, list(enumerate(attempts, start=first)))
