from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from poussetaches.core.task import Bury, Complete, Move, Reason, RetryAt, TaskState
from poussetaches.store.base import Push, Store
from poussetaches.store.sqlite.bulk_insert import SIZES, insert_rows
from tests.factories import NOW, make_task
from tests.store.driving import (
    GiveBack,
    assert_counts_are_true,
    end,
    finish_of,
    known,
    lease_all,
)
from tests.store.sqlite_files import opened

MANY = sum(SIZES) + 3
NUMBERS = [0, 1, SIZES[-1] - 1, SIZES[-1], SIZES[0] - 1, SIZES[0], SIZES[0] + 1, MANY, 10 * MANY]


@pytest.mark.parametrize("count", NUMBERS)
def test_every_row_is_written_once_and_in_order(count: int) -> None:
    rows = [(number, f"({number})") for number in range(count)]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE lines (place INTEGER PRIMARY KEY, number, text, mark)")

        insert_rows(connection, "INSERT INTO lines (number, text, mark) VALUES (?, ?, 'x')", rows)

        found = connection.execute("SELECT number, text FROM lines ORDER BY place").fetchall()
        assert found == rows


@pytest.mark.parametrize("count", NUMBERS)
def test_every_row_gets_its_own_values(count: int) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE lines (number INTEGER PRIMARY KEY, text)")
        connection.executemany("INSERT INTO lines VALUES (?, '')", [(n,) for n in range(count)])

        insert_rows(
            connection,
            "UPDATE lines SET text = new.column2 FROM (VALUES (?, ?)) AS new"
            " WHERE number = new.column1",
            [(number, str(number)) for number in range(count)],
        )

        found = connection.execute("SELECT number, text FROM lines ORDER BY number").fetchall()
        assert found == [(number, str(number)) for number in range(count)]


async def test_many_tasks_pushed_together_are_all_stored() -> None:
    tasks = [
        make_task(str(n), queue=f"q{n % 3}", labels={"n": str(n)} if n % 5 == 0 else {})
        for n in range(MANY)
    ]
    async with opened(None) as store:
        await store.push([Push(task=task) for task in tasks], now=NOW)

        assert [await store.get(task.id) for task in tasks] == tasks
        await assert_counts_are_true(store, [task.id for task in tasks])


async def test_many_attempts_that_end_together_each_end_in_their_own_way() -> None:
    ids = [str(number) for number in range(2 * MANY)]
    async with opened(None) as store:
        await _fail_some(store, ids)
        leases = await lease_all(store)
        moves: list[Move] = [
            Complete(),
            RetryAt(NOW),
            Complete(),
            Bury(Reason.REFUSED),
            Complete(),
        ]
        ends = [finish_of(leases[id], moves[n % len(moves)]) for n, id in enumerate(ids)]

        ended = await store.finish(ends, now=NOW)

        assert all(ended)
        await assert_counts_are_true(store, ids)
        for finish in ends:
            task, was = await known(store, finish.lease.task.id), finish.lease.task
            attempts = await store.attempts(task.id)
            assert attempts[-1] == finish.attempt
            assert len(attempts) == task.attempt_total == was.attempt_total + 1
            if isinstance(finish.move, Complete):
                assert (task.state, task.ended_at) == (TaskState.SUCCEEDED, NOW)
                assert (task.last_status, task.last_error) == (200, None)
                assert task.failure_group is None


async def _fail_some(store: Store, ids: list[str]) -> None:
    """Push tasks, and fail every fourth one."""
    await store.push([Push(task=make_task(id)) for id in ids], now=NOW)
    leases = await lease_all(store)
    for number, id in enumerate(ids):
        await end(store, leases[id], GiveBack() if number % 4 else RetryAt(NOW))
