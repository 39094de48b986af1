"""Writing what people do to tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from poussetaches.core.errors import PousseTachesError, StateConflict
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment
from poussetaches.core.task import Task, TaskState
from poussetaches.store.base import Change, Edit, Edited
from poussetaches.store.sqlite import search, tasks
from poussetaches.store.sqlite.reads import as_list
from poussetaches.store.sqlite.transaction import SqliteTransaction
from poussetaches.store.sqlite.unreadable import clear_away


class Editing(NamedTuple):
    """A task by its id, and what is done to it."""

    task_id: str
    edit: Edit
    now: Moment


class EditingMany(NamedTuple):
    """Tasks by their numbers, and what is done to each that the filter still selects.

    ``first`` is the place from which on they are edited.
    """

    numbers: Sequence[int]
    first: int
    edit: Callable[[int], Edit]
    filter: TaskFilter
    now: Moment


def edit(
    tx: SqliteTransaction, items: Sequence[Editing]
) -> Sequence[Task | PousseTachesError | None]:
    """Edit tasks; return each, or why it was refused, or None when there is none."""
    return [_edit_by_id(tx, item) for item in items]


class EditedPart(NamedTuple):
    """What became of edits, and the place from which on there are more."""

    edited: Edited
    end: int


def edit_many(tx: SqliteTransaction, calls: Sequence[EditingMany]) -> Sequence[EditedPart]:
    """Edit some of many tasks, as many as should be edited together."""
    return [_edit_many(tx, call) for call in calls]


def _edit_by_id(tx: SqliteTransaction, item: Editing) -> Task | PousseTachesError | None:
    row = tx.connection.execute(tx.sql["seq_of"], (item.task_id,)).fetchone()
    task = None if row is None else tx.reading.task_at(row[0])
    clear_away(tx, item.now)
    if task is None:
        return None
    try:
        new = _edited(task, item.edit)
    except PousseTachesError as exc:
        return exc
    _write(tx, [(row[0], task, new)], item.now)
    return new


def _edit_many(tx: SqliteTransaction, call: EditingMany) -> EditedPart:
    numbers = tasks.fitting(tx, call.numbers[call.first :])
    there = {row[0] for row in tx.reading.all("task_numbers", as_list(numbers))}
    selected = search.still_selected(tx.reading, call.filter, numbers, leased=tx.leased())
    skipped: Counter[str] = Counter()
    done: list[tuple[int, Task, Task | None]] = []
    for place, seq in enumerate(numbers, start=call.first):
        task = tx.reading.task_at(seq) if seq in selected else None
        if task is None:
            skipped["changed" if seq in there else "gone"] += 1
            continue
        try:
            done.append((seq, task, _edited(task, call.edit(place))))
        except StateConflict as exc:
            skipped[exc.state] += 1
        except PousseTachesError as exc:
            skipped[str(exc)] += 1
    clear_away(tx, call.now)
    _write(tx, done, call.now)
    return EditedPart(Edited(len(done), dict(skipped)), call.first + len(numbers))


def _edited(task: Task, edit: Edit) -> Task | None:
    new = edit(task)
    if new is not None and task.state is TaskState.RUNNING:
        return msgspec.structs.replace(task, cancelled=new.cancelled)
    return new


def _write(
    tx: SqliteTransaction, done: Sequence[tuple[int, Task, Task | None]], now: Moment
) -> None:
    tasks.delete(tx, [(seq, old) for seq, old, new in done if new is None])
    tasks.rewrite(
        tx,
        [
            tasks.Changed(seq, old, new, _change(old, new), now)
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
