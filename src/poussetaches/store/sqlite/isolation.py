"""Isolation of failing rows from the other rows of their write.

A write passes its rows to ``write_rows``, which writes them together. After an exception, group
commit rolls back the transaction and repeats the write in one that isolates rows: each row is
written within its own savepoint, and a failing row is given up. A task that is given up is buried.
If that fails too, its row is set aside; if even that fails, the task is abandoned until the next
start.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from poussetaches.core.defect import describe_defect, stack_of
from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.json_storage import encode
from poussetaches.core.moment import Moment
from poussetaches.core.task import Reason, TaskState, buried
from poussetaches.store.base import Change
from poussetaches.store.sqlite import database, task_writes
from poussetaches.store.sqlite.row_reader import Unreadable
from poussetaches.store.sqlite.transaction import Fate, RowFailure, SqliteTransaction, Step
from poussetaches.store.sqlite.unreadable_rows import clear_away, set_row_aside

I = TypeVar("I")  # noqa: E741 - a row of a write
R = TypeVar("R")

log = logging.getLogger(__name__)

# Handles a row that failed; returns its fate, None if the row no longer exists.
Remedy = Callable[[], Fate | None]


class Defect(NamedTuple):
    """An unexpected exception while a row was written."""

    step: Step
    error: str
    stack: str

    @classmethod
    def of(cls, exc: Exception, step: Step) -> Defect:
        """Return the defect for an exception in a step."""
        return cls(step, describe_defect(exc), stack_of(exc))

    @property
    def text(self) -> str:
        """The defect as the error of a task."""
        return f"internal error while {self.step}: {self.error}"


def write_rows(
    tx: SqliteTransaction,
    step: Step,
    rows: Sequence[I],
    write: Callable[[Sequence[I]], Sequence[R]],
    *,
    give_up: Callable[[I, Defect], R],
) -> list[R]:
    """Write rows; if rows are isolated, call ``give_up`` for each one that fails."""
    if not tx.isolates_rows:
        results = list(write(rows))
        tx.reach(step, rows)
        return results
    return [_alone(tx, step, row, write, give_up) for row in rows]


def _alone(
    tx: SqliteTransaction,
    step: Step,
    row: I,
    write: Callable[[Sequence[I]], Sequence[R]],
    give_up: Callable[[I, Defect], R],
) -> R:
    try:
        with tx.savepoint():
            [result] = write([row])
            tx.reach(step, [row])
            return result
    except Exception as exc:
        raise_trouble(tx, exc)
        return give_up(row, Defect.of(exc, step))


def raise_trouble(tx: SqliteTransaction, exc: Exception) -> None:
    """Raise the exception again unless a row caused it: if the store failed, or memory ran out."""
    if isinstance(exc, StoreUnavailable | MemoryError) or not tx.connection.in_transaction:
        raise exc
    if isinstance(exc, sqlite3.Error) and database.translated(exc) is not None:
        raise exc


def give_up_task(
    tx: SqliteTransaction, seq: int, defect: Defect, *, now: Moment, attempts: int = 0
) -> Fate | None:
    """Bury a task that could not be written, or set its row aside; count ``attempts`` more.

    An ended task stays as it is, and so does a running one, which its attempt will end.
    """
    row = Unreadable("tasks", seq, defect.text)
    return _first_that_works(
        tx,
        row,
        defect,
        [
            (Step.BURY_FAILED, lambda: _bury(tx, seq, defect, now=now, attempts=attempts)),
            (Step.SET_ASIDE, lambda: _set_aside(tx, row, now)),
        ],
    )


def give_up_row(
    tx: SqliteTransaction, row: Unreadable, defect: Defect, *, now: Moment
) -> Fate | None:
    """Set aside a row that could not be written."""
    remedies = [(Step.SET_ASIDE, lambda: _set_aside(tx, row, now))]
    return _first_that_works(tx, row, defect, remedies)


class SetAsideCall(NamedTuple):
    """The arguments of ``set_aside``."""

    row: Unreadable
    found_at: Moment


def set_aside(tx: SqliteTransaction, items: Sequence[SetAsideCall]) -> Sequence[bool]:
    """Move rows to the table ``unreadable``; return for each whether it still existed."""
    return write_rows(
        tx,
        Step.SET_ASIDE,
        items,
        lambda some: [set_row_aside(tx, item.row, item.found_at) for item in some],
        give_up=lambda item, defect: _abandon(tx, item.row, defect),
    )


def give_up_schedule(
    tx: SqliteTransaction, name: str, defect: Defect, *, now: Moment
) -> Fate | None:
    """Pause a schedule that could not be fired, or set its row aside."""
    row = Unreadable("schedules", name, defect.text)
    return _first_that_works(
        tx,
        row,
        defect,
        [
            (Step.PAUSE_FAILED, lambda: _pause(tx, name)),
            (Step.SET_ASIDE, lambda: _set_aside(tx, row, now)),
        ],
    )


def give_up_new(
    tx: SqliteTransaction, table: str, key: str, content: str, defect: Defect, *, now: Moment
) -> None:
    """Store a record as JSON in ``unreadable`` if it could not be written to its own table."""
    tx.connection.execute(tx.sql["add_unreadable"], (now, table, defect.text, content))
    tx.set_aside.append(Unreadable(table, key, defect.text))
    _note(tx, Unreadable(table, key, defect.text), defect, Fate.SET_ASIDE)


def as_content(record: object) -> str:
    """Return a record as JSON, even one that JSON cannot represent."""
    try:
        return encode(record).decode()
    except Exception:  # for example, it has an unpaired surrogate
        return msgspec.json.encode({"record": ascii(record)}).decode()


def _first_that_works(
    tx: SqliteTransaction,
    row: Unreadable,
    defect: Defect,
    remedies: Sequence[tuple[Step, Remedy]],
) -> Fate | None:
    for step, remedy in remedies:
        try:
            with tx.savepoint():
                fate = remedy()
                tx.reach(step, [row.key])
        except Exception as exc:
            raise_trouble(tx, exc)
            failed = {"table": row.table, "row": row.label, "step": step.value}
            log.error(
                "remedy failed",
                extra={**failed, "error": describe_defect(exc), "stack": stack_of(exc)},
            )
            continue
        if fate is not None:
            _note(tx, row, defect, fate)
        return fate
    _abandon(tx, row, defect)
    return Fate.UNCHANGED


def note_unchanged(tx: SqliteTransaction, row: Unreadable, defect: Defect) -> None:
    """Record that a row is unchanged, to be logged and counted."""
    _note(tx, row, defect, Fate.UNCHANGED)


def _abandon(tx: SqliteTransaction, row: Unreadable, defect: Defect) -> bool:
    if isinstance(row.key, int):
        tx.abandon(row.key)
    note_unchanged(tx, row, defect)
    return False


def _note(tx: SqliteTransaction, row: Unreadable, defect: Defect, fate: Fate) -> None:
    failure = RowFailure(row.table, row.label, defect.step, defect.error, defect.stack, fate)
    tx.failures.append(failure)


def _bury(
    tx: SqliteTransaction, seq: int, defect: Defect, *, now: Moment, attempts: int
) -> Fate | None:
    old = tx.reading.light_task(seq)
    if old is None:
        was_unreadable = bool(tx.reading.bad)
        clear_away(tx, now)
        return Fate.SET_ASIDE if was_unreadable else None
    if old.state is not TaskState.WAITING:
        return Fate.UNCHANGED
    new = msgspec.structs.replace(
        buried(old, Reason.INTERNAL_ERROR, now=now),
        attempt_count=old.attempt_count + attempts,
        attempt_total=old.attempt_total + attempts,
        last_status=None,
        last_error=defect.text,
    )
    task_writes.record(tx, [task_writes.Changed(seq, old, new, Change.DIED, now)])
    return Fate.BURIED


def _pause(tx: SqliteTransaction, name: str) -> Fate | None:
    paused = tx.connection.execute(tx.sql["pause_schedule"], (name,)).rowcount
    tx.news.schedules_changed = True
    return Fate.PAUSED if paused else None


def _set_aside(tx: SqliteTransaction, row: Unreadable, now: Moment) -> Fate | None:
    return Fate.SET_ASIDE if set_row_aside(tx, row, now) else None
