"""Faults that make single rows fail at a step of their processing."""

from __future__ import annotations

from collections import Counter

from poussetaches.core.task import Task
from poussetaches.store.export_records import TaskRecord
from poussetaches.store.sqlite.attempt_writes import FinishCall, GiveBackCall
from poussetaches.store.sqlite.edit_writes import EditCall, Placed
from poussetaches.store.sqlite.isolation import SetAsideCall
from poussetaches.store.sqlite.schedule_writes import FireCall, MoveCall
from poussetaches.store.sqlite.transaction import Step

Key = int | str


class Faults:
    """Raises an error when one of the chosen rows reaches one of its steps."""

    def __init__(self) -> None:
        self.raised: Counter[Step] = Counter()
        self._errors: dict[tuple[Step, Key], Exception] = {}

    def fail(self, *steps: Step, keys: tuple[Key, ...], error: Exception) -> None:
        """Make rows fail in some steps from now on; a task has two keys, its number and its id."""
        self._errors |= {(step, key): error for step in steps for key in keys}

    def __call__(self, step: Step, row: object) -> None:
        """Raise the error for this row and step, if there is one."""
        error = self._errors.get((step, key_of(row)))
        if error is not None:
            self.raised[step] += 1
            raise error


def key_of(row: object) -> Key:
    """Return the key of a row in any of the forms that steps use."""
    key: Key = type(row).__name__
    match row:
        case int() | str():
            key = row
        case FinishCall():
            key = row.finish.lease.task.id
        case GiveBackCall():
            key = row.lease.task.id
        case EditCall():
            key = row.task_id
        case Placed():
            key = row.seq
        case FireCall() | MoveCall():
            key = row.schedule.name
        case SetAsideCall():
            key = row.row.label
        case TaskRecord():
            key = row.task.id
        case (Task() as task, _) | (_, Task() as task):
            key = task.id
    return key
