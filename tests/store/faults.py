"""Faults of single rows: the seam by which tests have one row fail in a step of its processing."""

from __future__ import annotations

from collections import Counter

from poussetaches.core.task import Task
from poussetaches.store.records import TaskRecord
from poussetaches.store.sqlite.edits import Editing, Placed
from poussetaches.store.sqlite.finishes import TimedFinish
from poussetaches.store.sqlite.isolation import SettingAside
from poussetaches.store.sqlite.schedules import Firing, Moving
from poussetaches.store.sqlite.transaction import Step

Key = int | str


class Faults:
    """Raises at the rows that it was told of, each time that one reaches its step."""

    def __init__(self) -> None:
        self.raised: Counter[Step] = Counter()
        self._errors: dict[tuple[Step, Key], Exception] = {}

    def fail(self, *steps: Step, keys: tuple[Key, ...], error: Exception) -> None:
        """Have rows fail in some steps from now on; a task has two keys, its number and its id."""
        self._errors |= {(step, key): error for step in steps for key in keys}

    def __call__(self, step: Step, row: object) -> None:
        """Fail, if this row is to."""
        error = self._errors.get((step, key_of(row)))
        if error is not None:
            self.raised[step] += 1
            raise error


def key_of(row: object) -> Key:
    """Return what tells a row from others, in whatever form its step has it."""
    key: Key = type(row).__name__
    match row:
        case int() | str():
            key = row
        case TimedFinish():
            key = row.finish.lease.task.id
        case Editing():
            key = row.task_id
        case Placed():
            key = row.seq
        case Firing() | Moving():
            key = row.schedule.name
        case SettingAside():
            key = row.row.key
        case TaskRecord():
            key = row.task.id
        case (Task() as task, _) | (_, Task() as task):
            key = task.id
    return key
