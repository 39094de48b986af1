"""Writes of schedules and their runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from poussetaches.core.edits import cancel
from poussetaches.core.errors import OlderVersion, OwnedByAnother, PousseTachesError, TooMany
from poussetaches.core.moment import Moment
from poussetaches.core.schedule import (
    MAX_RUNS,
    MAX_SCHEDULES,
    Overlap,
    Schedule,
    check_owner,
    redeclared,
)
from poussetaches.core.task import Reason, Task
from poussetaches.store.base import Change, ScheduleEdit
from poussetaches.store.sqlite import task_writes
from poussetaches.store.sqlite.isolation import (
    Defect,
    give_up_row,
    give_up_schedule,
    give_up_task,
    write_rows,
)
from poussetaches.store.sqlite.maintenance_writes import bury
from poussetaches.store.sqlite.row_reader import Unreadable
from poussetaches.store.sqlite.rows import schedule_values
from poussetaches.store.sqlite.transaction import Fate, SqliteTransaction, Step
from poussetaches.store.sqlite.unreadable_rows import clear_away


class EditCall(NamedTuple):
    """The arguments of ``edit``."""

    name: str
    edit: ScheduleEdit
    now: Moment


class ReplaceCall(NamedTuple):
    """The arguments of ``replace``: all schedules of an owner."""

    owner: str
    version: int | None
    schedules: Sequence[Schedule]
    now: Moment


class MoveCall(NamedTuple):
    """The arguments of ``move``."""

    schedule: Schedule
    now: Moment


class FireCall(NamedTuple):
    """The arguments of ``fire``: the advanced schedule, and the run to add."""

    schedule: Schedule
    run: Task
    now: Moment


class ManualFireCall(NamedTuple):
    """The arguments of ``fire_by_hand``."""

    name: str
    run: Task


class DeleteCall(NamedTuple):
    """The arguments of ``delete``."""

    owner: str
    now: Moment


def edit(
    tx: SqliteTransaction, items: Sequence[EditCall]
) -> Sequence[Schedule | PousseTachesError | None]:
    """Edit schedules; return for each the new schedule, or the error that refused the edit."""
    return [_edit_one(tx, item) for item in items]


def replace(
    tx: SqliteTransaction, items: Sequence[ReplaceCall]
) -> Sequence[PousseTachesError | None]:
    """Replace all schedules of owners; return the error for a refused set."""
    return [_replace_one(tx, item) for item in items]


def move(tx: SqliteTransaction, items: Sequence[MoveCall]) -> Sequence[bool]:
    """Store the moments of schedules; return for each whether it was stored."""
    return write_rows(
        tx,
        Step.FIRE,
        items,
        lambda some: [_move(tx, item.schedule) for item in some],
        give_up=lambda one, defect: _pause(tx, one.schedule.name, defect, now=one.now),
    )


def delete(tx: SqliteTransaction, removals: Sequence[DeleteCall]) -> Sequence[int]:
    """Delete owners' schedules with their waiting runs; return the numbers of schedules."""
    counts = []
    for owner, now in removals:
        names = _names_of(tx, owner)
        _delete_many(tx, names, now)
        counts.append(len(names))
    return counts


def _edit_one(tx: SqliteTransaction, item: EditCall) -> Schedule | PousseTachesError | None:
    known = tx.reading.schedule(item.name)
    clear_away(tx, item.now)
    try:
        new = item.edit(known)
    except PousseTachesError as exc:
        return exc
    if new is None and known is not None:
        _delete_one(tx, item.name, item.now)
    elif new is not None and new != known:
        if known is None and tx.reading.number("count_all_schedules") >= MAX_SCHEDULES:
            return _too_many()
        _put(tx, new)
    return new


def _replace_one(tx: SqliteTransaction, item: ReplaceCall) -> PousseTachesError | None:
    refusal = _refusal(tx, item)
    if refusal is not None:
        return refusal
    declared = {schedule.name for schedule in item.schedules}
    _delete_many(tx, set(_names_of(tx, item.owner)) - declared, item.now)
    for schedule in item.schedules:
        known = tx.reading.schedule(schedule.name)
        clear_away(tx, item.now)
        new = redeclared(known, schedule)
        if new != known:
            _put(tx, new)
    if item.version is not None:
        tx.connection.execute(tx.sql["put_version"], (item.owner, item.version))
    return None


def _refusal(tx: SqliteTransaction, item: ReplaceCall) -> PousseTachesError | None:
    version = tx.reading.value("version_of", item.owner)
    if item.version is not None and isinstance(version, int) and version > item.version:
        return OlderVersion(
            f"the schedules of {item.owner!r} have version {version}; "
            f"version {item.version} is older"
        )
    for schedule in item.schedules:
        owner = tx.reading.value("owner_of_schedule", schedule.name)
        try:
            known = owner if isinstance(owner, str) else None
            check_owner(schedule.name, known=known, owner=item.owner)
        except OwnedByAnother as exc:
            return exc
    others = tx.reading.number("count_all_schedules") - tx.reading.number(
        "count_schedules", item.owner
    )
    return _too_many() if others + len(item.schedules) > MAX_SCHEDULES else None


def _too_many() -> TooMany:
    return TooMany(f"there can be at most {MAX_SCHEDULES} schedules; delete some first")


def _names_of(tx: SqliteTransaction, owner: str) -> list[str]:
    names = tx.reading.names("owned_schedules", owner)
    return [name for name in names if isinstance(name, str)]


def _put(tx: SqliteTransaction, schedule: Schedule) -> None:
    tx.connection.execute(tx.sql["put_schedule"], schedule_values(schedule))
    tx.news.schedules_changed = True


def _move(tx: SqliteTransaction, schedule: Schedule, *, last_task_id: str | None = None) -> bool:
    values = {
        "name": schedule.name,
        "created_at": schedule.created_at,
        "anchor_at": schedule.anchor_at,
        "next_run_at": schedule.next_run_at,
        "last_fired_at": schedule.last_fired_at,
        "last_task_id": last_task_id or schedule.last_task_id,
    }
    tx.connection.execute(tx.sql["move_schedule"], values)
    tx.news.schedules_changed = True
    return True


def _delete_many(tx: SqliteTransaction, names: Iterable[str], now: Moment) -> None:
    write_rows(
        tx,
        Step.DELETE_SCHEDULE,
        sorted(names),
        lambda some: _delete_some(tx, some, now),
        give_up=lambda name, defect: give_up_row(
            tx, Unreadable("schedules", name, defect.text), defect, now=now
        ),
    )


def _delete_some(
    tx: SqliteTransaction, names: Sequence[str], now: Moment
) -> Sequence[Fate | None]:
    for name in names:
        _delete_one(tx, name, now)
    return [None] * len(names)


def _delete_one(tx: SqliteTransaction, name: str, now: Moment) -> None:
    """Delete a schedule with its waiting runs, and cancel a running one."""
    write_rows(
        tx,
        Step.END_RUN,
        [seq for seq, _ in tx.reading.all("unfinished_runs", name)],
        lambda some: _end_runs(tx, some, now),
        give_up=lambda seq, defect: give_up_task(tx, seq, defect, now=now),
    )
    tx.connection.execute(tx.sql["delete_schedule"], (name,))
    tx.news.schedules_changed = True


def _end_runs(tx: SqliteTransaction, numbers: Sequence[int], now: Moment) -> Sequence[Fate | None]:
    waiting, running = [], []
    for seq in numbers:
        run = tx.reading.light_task(seq)
        if run is None:
            continue
        if tx.is_leased(seq):
            running.append(task_writes.Changed(seq, run, cancel(run, now=now), Change.EDITED, now))
        else:
            waiting.append((seq, run))
    clear_away(tx, now)
    task_writes.delete(tx, waiting)
    task_writes.record(tx, running)
    return [None] * len(numbers)


def fire(tx: SqliteTransaction, firings: Sequence[FireCall]) -> Sequence[bool]:
    """Advance schedules and add their runs unless blocked; return which runs were added."""
    return write_rows(
        tx,
        Step.FIRE,
        firings,
        lambda some: [_fire_one(tx, firing) for firing in some],
        give_up=lambda one, defect: _pause(tx, one.schedule.name, defect, now=one.now),
    )


def fire_by_hand(tx: SqliteTransaction, firings: Sequence[ManualFireCall]) -> Sequence[bool]:
    """Add runs to existing schedules; return for each whether the schedule exists."""
    were_there = []
    for name, run in firings:
        changed = tx.connection.execute(tx.sql["note_run"], (run.id, name)).rowcount
        were_there.append(bool(changed))
        if changed:
            task_writes.add(tx, [run])
            tx.news.schedules_changed = True
    return were_there


def _pause(tx: SqliteTransaction, name: str, defect: Defect, *, now: Moment) -> bool:
    give_up_schedule(tx, name, defect, now=now)
    return False


def _fire_one(tx: SqliteTransaction, firing: FireCall) -> bool:
    schedule = firing.schedule
    occurrence = schedule.last_fired_at
    assert occurrence is not None
    found = tx.connection.execute(tx.sql["firing_of"], (schedule.name, occurrence)).fetchone()
    if found is None or (found[0] is not None and found[0] >= occurrence):
        return False
    unfinished = tx.reading.all("unfinished_runs", schedule.name)
    if schedule.overlap is Overlap.ALLOW:
        is_blocked = len(unfinished) >= MAX_RUNS
    else:
        is_blocked = any(tx.is_leased(seq) or not count for seq, count in unfinished)
    if is_blocked:
        _move(tx, schedule)
        return False
    if schedule.overlap is Overlap.SKIP:
        bury(tx, [seq for seq, _ in unfinished], Reason.SUPERSEDED, now=firing.now)
    task_writes.add(tx, [firing.run])
    _move(tx, schedule, last_task_id=firing.run.id)
    return True
