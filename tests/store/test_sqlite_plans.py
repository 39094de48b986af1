"""SQLite's plans for the statements that large stores depend on."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest

from poussetaches.core.filter import TaskFilter
from poussetaches.core.task import Reason, TaskState
from poussetaches.store.sqlite import database, filter_query
from poussetaches.store.sqlite.bulk_insert import SIZES, multi_row_statement
from poussetaches.store.sqlite.row_reader import Reading
from poussetaches.store.sqlite.rows import COLUMNS
from poussetaches.store.statements import load_statements
from tests.factories import NOW

STATEMENTS = load_statements("sqlite.sql", COLUMNS)

BY_NUMBER = "INTEGER PRIMARY KEY"
BY_ID = "sqlite_autoindex_tasks_1"

# Statements that find or change some of many rows, and the index that each uses.
LOOKUPS = {
    "next_priority": "tasks_due",
    "first_waiting": "tasks_due",
    "first_unexpired": "tasks_due",
    "waiting_after": "tasks_due",
    "pull_back": BY_NUMBER,
    "count_due": "tasks_due",
    "idle_lanes": "tasks_due",
    "expired_tasks": "tasks_expiring",
    "next_expiry": "tasks_expiring",
    "ended_tasks": "tasks_ended",
    "list_enveloped": "tasks_envelope",
    "list_enveloped_waiting": "tasks_envelope",
    "unfinished_runs": "tasks_schedule",
    "latest_run": "tasks_schedule",
    "unique_tasks": "tasks_unique",
    "failures": "tasks_failures",
    "idle_failure_groups": "tasks_failures",
    "cancelled_tasks": "tasks_cancelled",
    "seq_of": BY_ID,
    "place_of_task": BY_ID,
    "task": BY_NUMBER,
    "light_task": BY_NUMBER,
    "light_tasks": BY_NUMBER,
    "move_task": BY_NUMBER,
    "succeed_tasks": BY_NUMBER,
    "put_off_task": BY_NUMBER,
    "delete_task": BY_NUMBER,
    "delete_labels": "labels_of",
    "delete_passed_keys": "keys_expiring",
    "delete_passed_minutes": "minutes_passed",
    "due_schedules": "schedules_due",
    "next_schedule_at": "schedules_due",
    "lane": "sqlite_autoindex_lanes_1",
    "key": "PRIMARY KEY",
    "last_attempt": "PRIMARY KEY",
    "last_failure": "PRIMARY KEY",
}
# These sort their results: a few names, or the groups of one slice.
SORTED = {"due_schedules", "failures"}
# These read the whole index.
WHOLE_INDEX = {"cancelled_tasks", "waiting_after"}
# These read a small table, and for each row search an index of the large one.
SMALL_TABLES = {"idle_lanes": "lanes", "idle_failure_groups": "failure_groups"}

WAITING, DEAD = TaskState.WAITING, TaskState.DEAD
FILTERS = [
    (TaskFilter(), BY_NUMBER),
    (TaskFilter(url="http://a"), BY_NUMBER),
    (TaskFilter(text="a"), BY_NUMBER),
    (TaskFilter(since=NOW), BY_NUMBER),
    (TaskFilter(states=frozenset({TaskState.RUNNING})), BY_NUMBER),
    (TaskFilter(states=frozenset({WAITING})), "tasks_listed"),
    pytest.param(
        TaskFilter(states=frozenset({WAITING, DEAD}), text="a"), "tasks_listed", id="two states"
    ),
    (TaskFilter(queue="mail"), "tasks_listed"),
    (TaskFilter(reason=Reason.EXPIRED), "tasks_listed"),
    (TaskFilter(ended_since=NOW), "tasks_listed"),
    (TaskFilter(failing=True), "tasks_failing"),
    (TaskFilter(failing=True, queue="mail", url="http://a"), "tasks_failing"),
    (TaskFilter(group="g"), "tasks_failures"),
    (TaskFilter(group="g", states=frozenset({DEAD}), queue="mail"), "tasks_failures"),
    (TaskFilter(key="k", states=frozenset({DEAD})), "tasks_key"),
    (TaskFilter(schedule="s"), "tasks_schedule"),
    (TaskFilter(labels=(("a", "1"), ("b", "2")), queue="mail"), "d USING PRIMARY KEY"),
]


class ExplainedReading(Reading):
    """A reading that keeps the plans of what it runs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection, STATEMENTS, lambda _: False)
        self.plans: list[list[str]] = []
        self._explained = connection

    def run(self, text: str, parameters: Mapping[str, object]) -> sqlite3.Cursor:
        """Explain a statement, and run it."""
        self.plans.append(plan_of(self._explained, text, parameters))
        return super().run(text, parameters)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(database.connect(None)) as connection:
        database.prepare(connection, must_exist=False)
        connection.execute("INSERT INTO queues (name, failing) VALUES ('mail', 1)")
        yield connection


def plan_of(
    connection: sqlite3.Connection, text: str, parameters: Mapping[str, object] | list[None]
) -> list[str]:
    """Return SQLite's query plan of a statement, line by line."""
    rows = connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)
    return [row[3] for row in rows]


def assert_uses(reading: ExplainedReading, index: str) -> None:
    """Check that all rows were read by an index, in its order; blocks are sorted."""
    assert reading.plans
    for plan in reading.plans:
        assert any(line.startswith("SEARCH") and index in line for line in plan), plan
        assert not [line for line in plan if re.match(r"SCAN [dt]\b", line)], plan
        if index != "tasks_listed":
            assert not [line for line in plan if "TEMP B-TREE" in line], plan


@pytest.mark.parametrize("name", LOOKUPS)
def test_statement_uses_its_index(connection: sqlite3.Connection, name: str) -> None:
    text = STATEMENTS[name]
    named = dict.fromkeys(re.findall(r":([a-z_]+)", text))
    marks = [None] * text.count("?")

    plan = plan_of(connection, text, named or marks)

    assert any(LOOKUPS[name] in line for line in plan), plan
    scans = [
        line
        for line in plan
        if re.match(r"SCAN (?!json_each|found|ended|first|[0-9]* ?CONSTANT|\()", line)
    ]
    small = SMALL_TABLES.get(name)
    expected = [] if small is None else [small]
    assert name in WHOLE_INDEX or [line.split()[1] for line in scans] == expected
    assert name in SORTED or not [line for line in plan if "TEMP B-TREE" in line], plan


@pytest.mark.parametrize("count", SIZES)
def test_tasks_are_changed_by_their_numbers(connection: sqlite3.Connection, count: int) -> None:
    text = multi_row_statement(STATEMENTS["succeed_tasks"], count)

    plan = plan_of(connection, text, [None] * text.count("?"))

    assert [line for line in plan if "tasks" in line] == [
        "SEARCH tasks USING INTEGER PRIMARY KEY (rowid=?)"
    ]


@pytest.mark.parametrize(("filter", "index"), FILTERS, ids=repr)
def test_filter_uses_its_index_in_the_order_of_adding(
    connection: sqlite3.Connection, filter: TaskFilter, index: str
) -> None:
    reading = ExplainedReading(connection)

    filter_query.select(reading, filter, leased=[1, 2], after=None, limit=10)

    assert_uses(reading, index)


def test_failing_tasks_of_many_queues_are_among_the_waiting_ones(
    connection: sqlite3.Connection,
) -> None:
    names = [(f"q{n}",) for n in range(filter_query.MERGED + 1)]
    connection.executemany("INSERT INTO queues (name, failing) VALUES (?, 1)", names)
    reading = ExplainedReading(connection)

    filter_query.select(reading, TaskFilter(failing=True), leased=[], after=None, limit=10)

    assert_uses(reading, "tasks_listed")


def test_states_in_blocks_are_counted_and_found_in_the_index_alone(
    connection: sqlite3.Connection,
) -> None:
    reading = ExplainedReading(connection)
    filter = TaskFilter(queue="mail", states=frozenset({WAITING, DEAD}))

    filter_query.select(reading, filter, leased=[1, 2], after=None, limit=10)

    for plan in reading.plans:
        [line] = [line for line in plan if "tasks_listed" in line]
        assert "COVERING" in line
        assert "(<expr>=? AND state=? AND queue=?" in line
