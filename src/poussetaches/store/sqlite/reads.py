"""Reading a SQLite store: plain functions over a connection.

A row that cannot be read never stops a reading: it goes to ``bad``, to be set aside.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane, QueueCounts
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Task, TaskState
from poussetaches.store.base import Lease, Leased, TaskPage, TaskSummary
from poussetaches.store.sqlite.leases import Leases
from poussetaches.store.sqlite.rows import (
    Row,
    UnreadableRow,
    attempt_from_row,
    schedule_from_row,
    task_from_row,
)

F = TypeVar("F")
V = TypeVar("V")

HIGHEST_PRIORITY = 1_000_000  # above any that is allowed


class Unreadable(NamedTuple):
    """A row that could not be read: its table, its key there, and what was wrong."""

    table: str
    key: int | str
    reason: str


class Reading:
    """One look at the database, with the unreadable rows that it came across."""

    def __init__(
        self, connection: sqlite3.Connection, sql: Mapping[str, str], leases: Leases
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._leases = leases
        self.bad: list[Unreadable] = []

    def task(self, task_id: str) -> Task | None:
        """Return a task by its id."""
        row = self._one("seq_of", task_id)
        return None if row is None else self._task_at(row[0])

    def attempts(self, task_id: str) -> list[Attempt]:
        """Return a task's attempts."""
        row = self._one("seq_of", task_id)
        if row is None:
            return []
        seq = row[0]
        return self._read("attempts", seq, lambda: self._all("attempts", seq), _attempts) or []

    def enveloped(
        self, state: TaskState, after: tuple[Moment, str] | None, limit: int
    ) -> TaskPage:
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
        found = [self._summary(key[0]) for key in keys]
        end = None
        if len(keys) == limit:
            end = Moment(keys[-1][1]), str(keys[-1][2], "utf-8", "replace")
        return TaskPage([summary for summary in found if summary is not None], end)

    def latest_runs(self, schedules: Iterable[str]) -> dict[str, TaskSummary]:
        """Return the latest run of each schedule."""
        found = {}
        for name in schedules:
            row = self._one("latest_run", name)
            summary = None if row is None else self._summary(row[0])
            if summary is not None:
                found[name] = summary
        return found

    def lease_due(self, lanes: Mapping[Lane, int], now: Moment, skip: set[int]) -> Leased:
        """Lease due tasks; ``skip`` are rows known to be unreadable."""
        leased = Leased([], {})
        try:
            for lane, wanted in lanes.items():
                row = self._one("lane", *lane)
                leased.next_due[lane] = (
                    None
                    if row is None
                    else self._lease_in(lane, row[0], wanted, now, skip=skip, leased=leased)
                )
        except BaseException:
            for lease in leased.leases:
                self._leases.give_back(lease.token)
            raise
        return leased

    def next_due(self, skip: set[int]) -> dict[Lane, Moment]:
        """Return when each lane's next task is due."""
        found = {}
        for number, queue, origin in self._all("lanes"):
            lane = Lane(queue, origin)
            nothing = Leased([], {})
            run_at = self._lease_in(lane, number, 0, Moment(0), skip=skip, leased=nothing)
            if run_at is not None:
                found[lane] = run_at
        return found

    def lanes_used_since(self, moment: Moment) -> list[Lane]:
        """Return the lanes that had a task added since a moment."""
        return [Lane(*row) for row in self._all("lanes_used_since", moment)]

    def schedules(self, statement: str, *parameters: object) -> list[Schedule]:
        """Return the schedules whose names a statement finds."""
        found = (self._schedule(name) for (name,) in self._all(statement, *parameters))
        return [schedule for schedule in found if schedule is not None]

    def counts(self) -> dict[str, QueueCounts]:
        """Return the counts of every queue."""
        return {
            name: QueueCounts(
                # Between a commit and the end of its leases, a reader sees a lease too many.
                waiting=max(0, waiting - self._leases.in_queue(name)),
                running=self._leases.in_queue(name),
                succeeded=succeeded,
                dead=dead,
                failing=failing,
            )
            for name, waiting, failing, succeeded, dead in self._all("queues")
        }

    def value(self, statement: str, *parameters: object) -> object:
        """Return the first column of the first row; None when there is none."""
        row = self._one(statement, *parameters)
        return None if row is None else row[0]

    def _lease_in(
        self,
        lane: Lane,
        number: int,
        wanted: int,
        now: Moment,
        *,
        skip: set[int],
        leased: Leased,
    ) -> Moment | None:
        """Lease up to ``wanted`` due tasks of a lane; return when the next one is due."""
        next_due: Moment | None = None
        priority = HIGHEST_PRIORITY
        while row := self._one("next_priority", number, priority):
            priority = row[0]
            passed_over = self._leases.in_lane(lane) + len(skip)
            candidates = self._all("first_waiting", number, priority, passed_over + wanted + 1)
            for seq, run_at in candidates:
                if seq in self._leases or seq in skip:
                    continue
                if wanted == 0 or run_at > now:
                    next_due = run_at if next_due is None else min(next_due, run_at)
                    break
                task = self._task_at(seq)
                if task is None:
                    # Unreadable: there may be more of the lane than was looked at for its sake.
                    next_due = run_at if next_due is None else min(next_due, run_at)
                    continue
                token = self._leases.take(seq, lane, task.attempt_total)
                leased.leases.append(Lease(task, token))
                wanted -= 1
        return next_due

    def _task_at(self, seq: int) -> Task | None:
        task = self._read("tasks", seq, lambda: self._one("task", seq), task_from_row)
        if task is not None and task.state is TaskState.WAITING and seq in self._leases:
            return _running(task)
        return task

    def _schedule(self, name: str) -> Schedule | None:
        return self._read(
            "schedules", name, lambda: self._one("schedule", name), schedule_from_row
        )

    def _summary(self, seq: int) -> TaskSummary | None:
        task = self._task_at(seq)
        if task is None:
            return None
        return TaskSummary(
            task, self._attempt("last_attempt", seq), self._attempt("last_failure", seq)
        )

    def _attempt(self, statement: str, seq: int) -> Attempt | None:
        return self._read("attempts", seq, lambda: self._one(statement, seq), attempt_from_row)

    def _read(
        self,
        table: str,
        key: int | str,
        fetch: Callable[[], F | None],
        decode: Callable[[F], V],
    ) -> V | None:
        try:
            found = fetch()
            return None if found is None else decode(found)
        except (UnreadableRow, UnicodeDecodeError) as exc:
            self.bad.append(Unreadable(table, key, str(exc)))
        except sqlite3.OperationalError as exc:
            # A text that is not UTF-8 is reported in this way, and has no code of SQLite's.
            if getattr(exc, "sqlite_errorcode", None) is not None:
                raise
            self.bad.append(Unreadable(table, key, str(exc)))
        return None

    def _one(self, statement: str, *parameters: object) -> Row | None:
        row: Row | None = self._connection.execute(self._sql[statement], parameters).fetchone()
        return row

    def _all(self, statement: str, *parameters: object) -> list[Row]:
        return self._connection.execute(self._sql[statement], parameters).fetchall()


def _attempts(rows: list[Row]) -> list[Attempt]:
    return [attempt_from_row(row) for row in rows]


def _running(task: Task) -> Task:
    return msgspec.structs.replace(task, state=TaskState.RUNNING)
