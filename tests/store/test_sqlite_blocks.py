"""Lists of tasks in more than one block of the index by state and queue."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from poussetaches.core.edits import Delete
from poussetaches.core.filter import TaskFilter
from poussetaches.core.task import Task, TaskState
from poussetaches.store.base import Push
from poussetaches.store.sqlite import SqliteStore, filter_query
from poussetaches.store.sqlite.filter_query import BLOCK_SHIFT
from tests.factories import NOW, make_ended, make_task, seeded
from tests.store.driving import edit_all, found_by, known, lease_all, numbers_of
from tests.store.sqlite_files import opened

BLOCK = 1 << BLOCK_SHIFT
COUNT = 6 * BLOCK + 5
QUEUES = ("default", "mail", "rare")

WAITING, RUNNING, SUCCEEDED, DEAD = (
    TaskState.WAITING,
    TaskState.RUNNING,
    TaskState.SUCCEEDED,
    TaskState.DEAD,
)
STATES = (WAITING, SUCCEEDED, DEAD)
UNFINISHED = frozenset({WAITING, RUNNING})
FILTERS = [
    TaskFilter(states=frozenset({SUCCEEDED})),
    TaskFilter(states=frozenset({DEAD})),
    TaskFilter(states=frozenset({WAITING})),
    TaskFilter(states=frozenset({RUNNING})),
    TaskFilter(states=frozenset({RUNNING, DEAD})),
    TaskFilter(states=frozenset({WAITING, DEAD}), queue="mail"),
    TaskFilter(states=UNFINISHED),
    TaskFilter(queue="rare"),
    TaskFilter(queue="rare", states=frozenset({RUNNING})),
    TaskFilter(queue="unknown"),
    TaskFilter(queue="mail", states=frozenset({DEAD}), url="http://app.test:5000/"),
    TaskFilter(queue="mail", states=frozenset({DEAD}), url="http://elsewhere.test/"),
]


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    """Return a store with tasks of all states, some of them rare, and with two empty blocks."""
    random = seeded()
    tasks = [
        make(f"{number:05}", random.choices(STATES, [100, 900, 2])[0], queue=queue)
        for number, queue in enumerate(random.choices(QUEUES, [500, 499, 1], k=COUNT))
    ]
    async with opened(None) as store:
        await store.restore([(task, []) for task in tasks])
        everything = await numbers_of(store, TaskFilter(), limit=COUNT)
        await edit_all(store, [seq for seq in everything if is_gone(seq)], Delete())
        await store.lease_due(dict.fromkeys(await store.next_due(), 30), now=NOW)
        yield store


def make(id: str, state: TaskState, *, queue: str) -> Task:
    """Return a task of a state."""
    if state is WAITING:
        return make_task(id, queue=queue)
    return make_ended(id, state, queue=queue)


def is_gone(seq: int) -> bool:
    """Return whether a task is in one of the blocks that are empty."""
    return seq >> BLOCK_SHIFT in (2, 3)


def is_selected(task: Task, filter: TaskFilter) -> bool:
    """Return whether a filter selects a task."""
    return (
        (filter.states is None or task.state in filter.states)
        and filter.queue in (None, task.queue)
        and task.url.startswith(filter.url or "")
    )


async def assert_lists_are_complete(store: SqliteStore, *limits: int) -> None:
    """Compare the list of each filter with the list of all tasks."""
    stored = [await known(store, id) for id in await found_by(store, TaskFilter())]
    for filter in FILTERS:
        expected = [task.id for task in stored if is_selected(task, filter)]
        for limit in limits:
            assert await found_by(store, filter, limit=limit) == expected, filter
            assert len(await numbers_of(store, filter, limit=limit)) == len(expected), filter


async def test_pages_have_all_selected_tasks_in_order(store: SqliteStore) -> None:
    await assert_lists_are_complete(store, 50, 1000, COUNT)


async def test_pages_that_end_after_some_rows_have_all_selected_tasks(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_query, "SCAN", BLOCK + BLOCK // 2)

    await assert_lists_are_complete(store, 50, COUNT)


async def test_task_is_listed_in_its_new_state() -> None:
    async with opened(None) as store:
        await store.push([Push(task=make_task("a"))], now=NOW)
        await lease_all(store)

        assert await found_by(store, TaskFilter(states=frozenset({RUNNING}))) == ["a"]
        assert await found_by(store, TaskFilter(states=frozenset({WAITING}))) == []
