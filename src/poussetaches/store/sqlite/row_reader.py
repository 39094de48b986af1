"""Reads of tasks, attempts, schedules and other rows, on any connection.

An unreadable row does not fail a read: it is added to ``bad``, to be set aside.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Task, TaskState
from poussetaches.store.base import SummaryPage, TaskSummary
from poussetaches.store.minute_row import MinuteRow
from poussetaches.store.sqlite.rows import (
    Row,
    UnreadableRow,
    attempt_from_row,
    lane_from_row,
    schedule_from_row,
    task_from_row,
    text_of,
    text_or_bytes,
)

MAX_BODIES_SIZE = 1024 * 1024  # bytes; a page of the original's tasks ends after as many

log = logging.getLogger(__name__)

F = TypeVar("F")
V = TypeVar("V")


class Unreadable(NamedTuple):
    """An unreadable row: its table, its key and the error."""

    table: str
    key: int | str | bytes  # bytes: a name that may not be UTF-8
    reason: str

    @property
    def label(self) -> int | str:
        """The key as it is logged."""
        return text_of(self.key) if isinstance(self.key, bytes) else self.key


def as_list(numbers: Sequence[int]) -> str:
    """Return numbers as a parameter for ``json_each``."""
    return msgspec.json.encode(list(numbers)).decode()


class Reading:
    """Reads rows of a database, and collects the unreadable ones."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        sql: Mapping[str, str],
        is_leased: Callable[[int], bool],
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._is_leased = is_leased
        self.bad: list[Unreadable] = []

    def task(self, task_id: str) -> Task | None:
        """Return a task by its id."""
        row = self.one("seq_of", task_id)
        return None if row is None else self.task_at(row[0])

    def task_at(self, seq: int) -> Task | None:
        """Return a task by its number."""
        return self._task("task", seq)

    def light_task(self, seq: int) -> Task | None:
        """Return a task by its number, without headers and body."""
        return self._task("light_task", seq)

    def light_tasks(self, numbers: Sequence[int]) -> list[Task]:
        """Return tasks in the order of their numbers, without headers and bodies."""
        found = self._tasks("light_tasks", numbers, one_by_one=self.light_task)
        return [task for task in found if task is not None]

    def tasks_at(self, numbers: Sequence[int]) -> list[Task | None]:
        """Return tasks in the order of their numbers; None for one that cannot be read."""
        return self._tasks("tasks", numbers, one_by_one=self.task_at)

    def attempts(self, task_id: str) -> list[Attempt]:
        """Return a task's attempts."""
        row = self.one("seq_of", task_id)
        if row is None:
            return []
        return self.attempts_at(row[0])

    def attempts_at(self, seq: int) -> list[Attempt]:
        """Return the attempts of a task by its number."""
        return self._read("attempts", seq, lambda: self.all("attempts", seq), _attempts) or []

    def attempt(self, statement: str, seq: int) -> Attempt | None:
        """Return the attempt of a task that a statement finds."""
        return self._read("attempts", seq, lambda: self.one(statement, seq), attempt_from_row)

    def enveloped(
        self, state: TaskState, after: tuple[Moment, str] | None, limit: int
    ) -> SummaryPage:
        """Return a page of the original's tasks."""
        waiting = state in (TaskState.WAITING, TaskState.RUNNING)
        run_at, task_id = after or (-1, "")
        keys = self._connection.execute(
            self._sql["list_enveloped_waiting" if waiting else "list_enveloped"],
            {
                "state": TaskState.WAITING.value if waiting else state.value,
                "run_at": run_at,
                "id": task_id,
                "limit": limit,
            },
        ).fetchall()
        found: list[TaskSummary] = []
        size = 0
        for count, (seq, run_at, task_id) in enumerate(keys, start=1):
            summary = self._summary(seq)
            if summary is not None:
                found.append(summary)
                size += len(summary.task.body)
            if count == limit or (size >= MAX_BODIES_SIZE and count < len(keys)):
                return SummaryPage(found, (Moment(run_at), text_of(task_id)))
        return SummaryPage(found, None)

    def latest_runs(self, schedules: Iterable[str]) -> dict[str, TaskSummary]:
        """Return the latest run of each schedule."""
        found = {}
        for name in schedules:
            row = self.one("latest_run", name)
            summary = None if row is None else self._summary(row[0])
            if summary is not None:
                found[name] = summary
        return found

    def schedule(self, name: str | bytes) -> Schedule | None:
        """Return a schedule by its name."""
        return self._read("schedules", name, lambda: self.one("schedule", name), schedule_from_row)

    def schedules(self, statement: str, *parameters: object) -> list[Schedule]:
        """Return the schedules whose names a statement finds."""
        found = (self.schedule(name) for name in self.names(statement, *parameters))
        return [schedule for schedule in found if schedule is not None]

    def minutes(self, queue: str, since: Moment) -> list[MinuteRow]:
        """Return the statistics of a queue, minute by minute."""
        return [MinuteRow(*row) for row in self.all("minutes", queue, since)]

    def names(self, statement: str, *parameters: object) -> list[str | bytes]:
        """Return the names that a statement finds as bytes, decoded if they are UTF-8."""
        return [text_or_bytes(name) for (name,) in self.all(statement, *parameters)]

    def value(self, statement: str, *parameters: object) -> object:
        """Return the first column of the first row; None if there is no row."""
        row = self.one(statement, *parameters)
        return None if row is None else row[0]

    def number(self, statement: str, *parameters: object) -> int:
        """Return the number that a statement finds."""
        found = self.value(statement, *parameters)
        assert isinstance(found, int)
        return found

    def one(self, statement: str, *parameters: object) -> Row | None:
        """Return the first row that a statement finds."""
        row: Row | None = self._connection.execute(self._sql[statement], parameters).fetchone()
        return row

    def all(self, statement: str, *parameters: object, **named: object) -> list[Row]:
        """Return all rows of a statement; parameters are positional or named."""
        return self._connection.execute(self._sql[statement], named or parameters).fetchall()

    def lanes(self, statement: str, *parameters: object) -> dict[int, Lane]:
        """Return the readable lanes of a statement by their numbers."""
        found = []
        for row in self.all(statement, *parameters):
            try:
                found.append(lane_from_row(row))
            except UnreadableRow as exc:  # `verify` reports it as well
                fields = {"lane": row[0], "reason": str(exc)}
                log.error("lane cannot be read: its tasks are not sent", extra=fields)
        return dict(found)

    def statement(self, name: str) -> str:
        """Return the text of a statement."""
        return self._sql[name]

    def run(self, text: str, parameters: Mapping[str, object]) -> sqlite3.Cursor:
        """Run a statement that was composed at run time, with named parameters."""
        return self._connection.execute(text, parameters)

    def _task(self, statement: str, seq: int) -> Task | None:
        return self._as_leased(
            seq, self._read("tasks", seq, lambda: self.one(statement, seq), task_from_row)
        )

    def _tasks(
        self, statement: str, numbers: Sequence[int], *, one_by_one: Callable[[int], Task | None]
    ) -> list[Task | None]:
        """Return tasks by one statement, since each statement releases the interpreter's lock."""
        if len(numbers) == 1:
            return [one_by_one(numbers[0])]
        try:
            rows = self.all(statement, as_list(numbers)) if numbers else []
        except sqlite3.OperationalError as exc:
            _check_is_text(exc)
            rows = []  # one of them is unreadable: read them one by one
        by_number = {row[-1]: row for row in rows}
        return [
            self._decoded(seq, by_number[seq]) if seq in by_number else one_by_one(seq)
            for seq in numbers
        ]

    def _decoded(self, seq: int, row: Row) -> Task | None:
        try:
            task = task_from_row(row)
        except UnreadableRow as exc:
            self.bad.append(Unreadable("tasks", seq, str(exc)))
            return None
        return task if task.ended_at is not None else self._as_leased(seq, task)

    def _as_leased(self, seq: int, task: Task | None) -> Task | None:
        if task is not None and task.state is TaskState.WAITING and self._is_leased(seq):
            return msgspec.structs.replace(task, state=TaskState.RUNNING)
        return task

    def _summary(self, seq: int) -> TaskSummary | None:
        task = self.task_at(seq)
        if task is None:
            return None
        return TaskSummary(
            task, self.attempt("last_attempt", seq), self.attempt("last_failure", seq)
        )

    def _read(
        self,
        table: str,
        key: int | str | bytes,
        fetch: Callable[[], F | None],
        decode: Callable[[F], V],
    ) -> V | None:
        try:
            found = fetch()
            return None if found is None else decode(found)
        except (UnreadableRow, UnicodeDecodeError) as exc:
            self.bad.append(Unreadable(table, key, str(exc)))
        except sqlite3.OperationalError as exc:
            _check_is_text(exc)
            self.bad.append(Unreadable(table, key, str(exc)))
        return None


def _check_is_text(exc: sqlite3.OperationalError) -> None:
    """Raise the error again unless a text is not UTF-8: that error has no code."""
    if getattr(exc, "sqlite_errorcode", None) is not None:
        raise exc


def _attempts(rows: list[Row]) -> list[Attempt]:
    return [attempt_from_row(row) for row in rows]
