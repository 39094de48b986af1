"""Writing schedules and their runs, in the manner of ``tasks``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from poussetaches.core.moment import Moment
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Reason, Task
from poussetaches.store.sqlite import tasks
from poussetaches.store.sqlite.rows import schedule_values
from poussetaches.store.sqlite.transaction import SqliteTransaction


class Firing(NamedTuple):
    """A schedule as it is to be kept, and the run to add."""

    schedule: Schedule
    run: Task
    now: Moment


class Removal(NamedTuple):
    """Whose schedules are to go."""

    owner: str
    now: Moment


def put(tx: SqliteTransaction, schedules: Sequence[Schedule]) -> Sequence[bool]:
    """Add schedules whose names are not known; tell which were new."""
    new = [
        tx.connection.execute(tx.sql["add_schedule"], schedule_values(schedule)).fetchone()
        is not None
        for schedule in schedules
    ]
    tx.schedules_changed = tx.schedules_changed or any(new)
    return new


def move(tx: SqliteTransaction, schedules: Sequence[Schedule]) -> Sequence[None]:
    """Keep the moments of schedules as given."""
    for schedule in schedules:
        _move(tx, schedule)
    return [None] * len(schedules)


def fire(tx: SqliteTransaction, firings: Sequence[Firing]) -> Sequence[bool]:
    """Advance schedules and add their runs where nothing stands in the way; tell where."""
    return [_fire_one(tx, firing) for firing in firings]


def _fire_one(tx: SqliteTransaction, firing: Firing) -> bool:
    schedule = firing.schedule
    row = tx.connection.execute(tx.sql["last_fired_at"], (schedule.name,)).fetchone()
    occurrence = schedule.last_fired_at
    if row is None or (row[0] is not None and occurrence is not None and row[0] >= occurrence):
        return False
    unfinished = tx.connection.execute(tx.sql["unfinished_runs"], (schedule.name,)).fetchall()
    stands_in_the_way = any(tx.is_leased(seq) or not count for seq, _, count in unfinished)
    if stands_in_the_way:
        _move(tx, schedule)
        return False
    tasks.bury_waiting(tx, unfinished, Reason.SUPERSEDED, now=firing.now)
    tasks.add(tx, [firing.run])
    _move(tx, schedule, last_task_id=firing.run.id)
    return True


def _move(tx: SqliteTransaction, schedule: Schedule, *, last_task_id: str | None = None) -> None:
    values = (
        schedule.created_at,
        schedule.anchor_at,
        schedule.next_run_at,
        schedule.last_fired_at,
        last_task_id or schedule.last_task_id,
        schedule.name,
    )
    tx.connection.execute(tx.sql["move_schedule"], values)
    tx.schedules_changed = True


def delete(tx: SqliteTransaction, removals: Sequence[Removal]) -> Sequence[int]:
    """Delete owners' schedules and what waits of them; tell how many schedules."""
    return [_delete_of(tx, removal) for removal in removals]


def _delete_of(tx: SqliteTransaction, removal: Removal) -> int:
    names = tx.connection.execute(tx.sql["owned_schedules"], (removal.owner,)).fetchall()
    for (name,) in names:
        unfinished = tx.connection.execute(tx.sql["unfinished_runs"], (name,)).fetchall()
        tasks.delete_waiting(tx, [row for row in unfinished if not tx.is_leased(row[0])])
        for seq, _, _ in unfinished:
            if tx.is_leased(seq):
                tx.cancel(seq)
        tx.connection.execute(tx.sql["delete_schedule"], (name,))
    tx.schedules_changed = tx.schedules_changed or bool(names)
    return len(names)
