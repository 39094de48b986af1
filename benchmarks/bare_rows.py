"""The limit of storage: bare SQLite with the store's tables, indexes and columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from benchmarks.bodies import BODY
from poussetaches.core.ids import new_request_id, new_task_id
from poussetaches.core.moment import Moment
from poussetaches.core.task import Attempt, BodyKind, Task, TaskState
from poussetaches.store.sqlite import database
from poussetaches.store.sqlite.rows import (
    COLUMNS,
    attempt_values,
    minimal_values,
    progress_values,
    state_values,
)
from poussetaches.store.statements import load_statements

Row = tuple[object, ...]
Write = tuple[str, Callable[[int], Row]]  # a statement, and its values for the row of a number

LANE = 1
URL = "http://127.0.0.1:5000/tasks/work"


class BareRows:
    """Writes rows of tasks and attempts, which are made before the measurement."""

    def __init__(self, path: Path) -> None:
        self._connection = database.connect(path)
        database.prepare(self._connection, must_exist=False)
        self._random = Random(1)
        sql = load_statements("sqlite.sql", COLUMNS)
        self._adds: list[Write] = [(sql["add_minimal_task"], self._added)]
        self._ends: list[Write] = [(sql["move_task"], _moved), (sql["add_attempt"], self._tried)]
        self._count = 0

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def add(self, count: int, size: int) -> float:
        """Add tasks in batches of a size; return how many a second."""
        first, self._count = self._count, self._count + count
        return self._in_batches(self._adds, range(first, self._count), size)

    def end(self, count: int, size: int) -> float:
        """Record the success of the first tasks; return how many a second."""
        assert count <= self._count
        return self._in_batches(self._ends, range(count), size)

    def commit_times(self, count: int) -> list[float]:
        """Add tasks one by one; return how many seconds each took until it was durable."""
        first, self._count = self._count, self._count + count
        rows = range(first, self._count)
        return [1 / self._in_batches(self._adds, range(n, n + 1), 1) for n in rows]

    def _in_batches(self, writes: Sequence[Write], numbers: range, size: int) -> float:
        seconds = 0.0
        for at in range(0, len(numbers), size):
            batch = numbers[at : at + size]
            rows = [(sql, [values_of(n) for n in batch]) for sql, values_of in writes]
            started = time.perf_counter()
            self._write(rows)
            seconds += time.perf_counter() - started
        return len(numbers) / seconds

    def _write(self, rows: Sequence[tuple[str, list[Row]]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for sql, values in rows:
            self._connection.executemany(sql, values)
        self._connection.execute("COMMIT")

    def _added(self, number: int) -> Row:
        now = Moment(time.time_ns() // 1000)
        task = Task(
            id=new_task_id(now, self._random),
            url=URL,
            body=BODY,
            body_kind=BodyKind.JSON,
            created_at=now,
            run_at=now,
            due_at=now,
        )
        return (number + 1, LANE, *minimal_values(task))

    def _tried(self, number: int) -> Row:
        attempt = Attempt(
            round=1,
            number=1,
            request_id=new_request_id(self._random),
            started_at=Moment(time.time_ns() // 1000),
            duration=0.001,
            succeeded=True,
            status=200,
        )
        return (number + 1, 1, *attempt_values(attempt))


def _moved(number: int) -> Row:
    now = Moment(time.time_ns() // 1000)
    task = Task(
        id="",
        url=URL,
        created_at=now,
        run_at=now,
        due_at=now,
        state=TaskState.SUCCEEDED,
        ended_at=now,
        attempt_count=1,
        attempt_total=1,
        last_status=200,
    )
    return (None, None, None, *state_values(task), *progress_values(task), number + 1)
