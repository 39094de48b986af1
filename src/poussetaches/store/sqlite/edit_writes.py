"""Writes of edits of tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from poussetaches.core.edits import Delete, Edit, edited, spread_out
from poussetaches.core.errors import DefectiveTask, EditFailed, PousseTachesError, StateConflict
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment
from poussetaches.core.task import Task, TaskState
from poussetaches.store.base import Change, Edited
from poussetaches.store.sqlite import filter_query, task_writes
from poussetaches.store.sqlite.isolation import (
    Defect,
    each,
    give_up_task,
    note_left,
    raise_trouble,
)
from poussetaches.store.sqlite.row_reader import Unreadable
from poussetaches.store.sqlite.transaction import SqliteTransaction, Step
from poussetaches.store.sqlite.unreadable_rows import clear_away

SLICE = 250  # tasks: keeps one commit, and the pushes that wait for it, under ~10 ms
SKIPPED_FAILED = "failed"  # why a task was skipped whose change could not be written


class Editing(NamedTuple):
    """The arguments of ``edit``."""

    task_id: str
    edit: Edit
    now: Moment


class EditingSlice(NamedTuple):
    """Tasks by their numbers, and the edit of those from ``start`` on, as one slice."""

    numbers: Sequence[int]
    start: int
    edit: Edit
    filter: TaskFilter
    now: Moment
    dry_run: bool


def edit(
    tx: SqliteTransaction, items: Sequence[Editing]
) -> Sequence[Task | PousseTachesError | None]:
    """Edit tasks; return each, or why it was refused, or None when there is none.

    A deleted task is returned as it was.
    """
    return each(
        tx,
        Step.EDIT,
        items,
        lambda some: [_edit_by_id(tx, item) for item in some],
        give_up=lambda item, defect: _give_up(tx, item, defect),
    )


def edit_slice(tx: SqliteTransaction, calls: Sequence[EditingSlice]) -> Sequence[Edited]:
    """Edit slices of many tasks."""
    return [_edit_slice(tx, call) for call in calls]


def _edit_by_id(tx: SqliteTransaction, item: Editing) -> Task | PousseTachesError | None:
    row = tx.connection.execute(tx.sql["seq_of"], (item.task_id,)).fetchone()
    task = None if row is None else tx.reading.task_at(row[0])
    clear_away(tx, item.now)
    if task is None:
        return None
    try:
        new = _edited(tx, row[0], task, item.edit)
    except PousseTachesError as exc:
        return exc
    _write(tx, [(row[0], task, new)], item.now)
    return task if new is None else new


def _give_up(
    tx: SqliteTransaction, item: Editing, defect: Defect
) -> Task | PousseTachesError | None:
    row = tx.connection.execute(tx.sql["seq_of"], (item.task_id,)).fetchone()
    if row is None:
        return None
    fate = give_up_task(tx, row[0], defect, now=item.now)
    if fate is None:
        return None
    return DefectiveTask(f"the task could not be changed ({defect.text}); it was {fate}")


def _edit_slice(tx: SqliteTransaction, call: EditingSlice) -> Edited:
    numbers = call.numbers[call.start : call.start + SLICE]
    found = filter_query.examine(tx.reading, call.filter, numbers, leased=tx.leased())
    if isinstance(call.edit, Delete):  # which deletes the attempts, too
        numbers = task_writes.fitting(tx, numbers)
    else:
        numbers = task_writes.first_fitting(numbers, {seq: one.size for seq, one in found.items()})
    skips = each(
        tx,
        Step.EDIT,
        [
            Placed(place, seq, found.get(seq))
            for place, seq in enumerate(numbers, start=call.start)
        ],
        lambda some: _edit_some(tx, call, some),
        give_up=lambda row, defect: _skip(tx, row, defect, call.now),
    )
    skipped = Counter(skip for skip in skips if skip is not None)
    count = len(skips) - skipped.total()
    return Edited(count, dict(skipped), call.start + len(numbers))


class Placed(NamedTuple):
    """A task by its number, with its place among those to be edited."""

    place: int
    seq: int
    found: filter_query.Found | None  # None if it does not exist


def _edit_some(
    tx: SqliteTransaction, call: EditingSlice, some: Sequence[Placed]
) -> list[str | None]:
    """Edit tasks; return for each why it was skipped, None if it was not."""
    skips: list[str | None] = []
    done: list[tuple[int, Task, Task | None]] = []
    selected = [row.seq for row in some if row.found is not None and row.found.is_selected]
    readable = dict(zip(selected, tx.reading.tasks_at(selected), strict=True))
    for place, seq, found in some:
        task = readable.get(seq)
        if task is None:
            skips.append("gone" if found is None else "changed")
            continue
        try:
            edit = spread_out(call.edit, place, len(call.numbers))
            done.append((seq, task, _edited(tx, seq, task, edit)))
            skips.append(None)
        except EditFailed:
            skips.append(SKIPPED_FAILED)
        except StateConflict as exc:
            skips.append(exc.state)
        except PousseTachesError as exc:
            skips.append(str(exc))
    clear_away(tx, call.now)
    if not call.dry_run:
        _write(tx, done, call.now)
    return skips


def _skip(tx: SqliteTransaction, spread_out: Placed, defect: Defect, now: Moment) -> str:
    give_up_task(tx, spread_out.seq, defect, now=now)
    return SKIPPED_FAILED


def _edited(tx: SqliteTransaction, seq: int, task: Task, edit: Edit) -> Task | None:
    try:
        return edited(task, edit)
    except PousseTachesError:
        raise
    except Exception as exc:
        raise_trouble(tx, exc)
        # The change caused the error: the task stays unchanged.
        note_left(tx, Unreadable("tasks", seq, ""), Defect.of(exc, Step.EDIT))
        raise EditFailed from exc


def _write(
    tx: SqliteTransaction, done: Sequence[tuple[int, Task, Task | None]], now: Moment
) -> None:
    task_writes.delete(tx, [(seq, old) for seq, old, new in done if new is None])
    task_writes.rewrite(
        tx,
        [
            task_writes.Changed(seq, old, new, _change(old, new), now)
            for seq, old, new in done
            if new is not None and new != old
        ],
    )


def _change(old: Task, new: Task) -> Change:
    if old.ended_at is None and new.ended_at is not None:
        return Change.SUCCEEDED if new.state is TaskState.SUCCEEDED else Change.DIED
    if old.ended_at is not None and new.ended_at is None:
        return Change.REQUEUED
    return Change.EDITED
