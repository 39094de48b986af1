"""Bulk changes: slices, order, what is skipped, and their end before their time."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from poussetaches.api import bulk as bulk_module
from poussetaches.api.bulk import Bulk
from poussetaches.api.problems import Problem
from poussetaches.core import edits
from poussetaches.core.errors import InvalidTask, OutcomeUnknown, StoreUnavailable
from poussetaches.core.filter import TaskFilter
from poussetaches.core.task import Task, TaskState
from poussetaches.store.base import Edit, Edited
from poussetaches.store.sqlite import SqliteStore
from tests.factories import NOW, make_task
from tests.fakes import let_run
from tests.store.sqlite_files import Disk, opened, sqlite_error

ALL = TaskFilter()


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "SLICE", 2)
    monkeypatch.setattr(bulk_module, "SELECTED", 3)


@pytest.fixture
def bulk(store: SqliteStore) -> Bulk:
    return Bulk(store=store, now=lambda: NOW)


async def add_tasks(store: SqliteStore, count: int) -> list[str]:
    ids = [f"task-{place}" for place in range(count)]
    for task_id in ids:
        await store.add(make_task(task_id))
    return ids


def cancelled(place: int, count: int) -> Edit:
    return lambda task: edits.cancel(task, now=NOW)


async def states(store: SqliteStore) -> dict[str, TaskState]:
    page = await store.tasks(ALL, after=None, limit=100)
    return {task.id: task.state for task in page.tasks}


class BreakingDisk(Disk):
    """Fails each commit after some more."""

    def __init__(self) -> None:
        super().__init__()
        self.commits_left = 1_000

    def commit(self, connection: sqlite3.Connection) -> None:
        """Make the open transaction durable, or undo it."""
        if not self.commits_left:
            raise sqlite_error(sqlite3.SQLITE_IOERR_WRITE)
        self.commits_left -= 1
        super().commit(connection)


@pytest.mark.parametrize("done", [0, 1, 2], ids=lambda done: f"{done} slices")
async def test_store_that_fails_after_some_slices_leaves_a_change_that_is_not_undone(
    done: int,
) -> None:
    disk = BreakingDisk()
    async with opened(None, disk=disk) as store:
        await add_tasks(store, 5)
        disk.commits_left = done

        with pytest.raises(StoreUnavailable) as caught:
            await Bulk(store=store, now=lambda: NOW).apply(ALL, cancelled)

        dead = [id for id, state in (await states(store)).items() if state is TaskState.DEAD]
    assert len(dead) == 2 * done
    assert isinstance(caught.value, OutcomeUnknown) is (done > 0)
    assert f"{2 * done} tasks were changed" in str(caught.value) or not done


async def test_tasks_are_edited_in_the_order_of_their_pushes(
    bulk: Bulk, store: SqliteStore
) -> None:
    ids = await add_tasks(store, 7)
    seen: list[tuple[int, int, str]] = []

    def note(place: int, count: int) -> Edit:
        def edit(task: Task) -> Task:
            seen.append((place, count, task.id))
            return task

        return edit

    done = await bulk.apply(ALL, note)

    assert done == Edited(7, {})
    assert seen == [(place, 7, task_id) for place, task_id in enumerate(ids)]


async def test_what_is_refused_is_counted_by_reason_over_all_slices(
    bulk: Bulk, store: SqliteStore
) -> None:
    await add_tasks(store, 5)

    def refuse(place: int, count: int) -> Edit:
        def edit(task: Task) -> Task:
            if place == 0:
                return edits.requeue(task, at=NOW)
            raise InvalidTask("url", "is no good")

        return edit

    expected = Edited(0, {"waiting": 1, "url: is no good": 4})
    assert await bulk.apply(ALL, refuse) == expected


async def test_look_tells_what_would_be_done_and_changes_nothing(
    bulk: Bulk, store: SqliteStore
) -> None:
    await add_tasks(store, 5)
    await bulk.apply(TaskFilter(ids=("task-1", "task-3")), cancelled)
    before = await states(store)

    looked = await bulk.look(ALL, cancelled)

    assert looked == Edited(3, {"dead": 2})
    assert await states(store) == before
    assert await bulk.apply(ALL, cancelled) == looked


async def test_delete_tells_how_many(bulk: Bulk, store: SqliteStore) -> None:
    await add_tasks(store, 5)

    count = await bulk.delete(TaskFilter(ids=("task-0", "task-4", "task-9")))

    assert count == 2
    assert set(await states(store)) == {"task-1", "task-2", "task-3"}


async def test_call_goes_on_when_its_caller_is_gone(bulk: Bulk, store: SqliteStore) -> None:
    await add_tasks(store, 7)
    calling = asyncio.ensure_future(bulk.apply(ALL, cancelled))
    await let_run(1)

    calling.cancel()
    await let_run()

    assert set((await states(store)).values()) == {TaskState.DEAD}


async def test_call_ends_after_its_slice_when_the_server_stops(
    bulk: Bulk, store: SqliteStore
) -> None:
    await add_tasks(store, 7)
    stopping: list[asyncio.Future[None]] = []

    def cancel_and_stop(place: int, count: int) -> Edit:
        if place == 3 and not stopping:
            stopping.append(asyncio.ensure_future(bulk.stop()))
        return cancelled(place, count)

    with pytest.raises(Problem) as caught:
        await bulk.apply(ALL, cancel_and_stop)
    await stopping[0]

    done = [state for state in (await states(store)).values() if state is TaskState.DEAD]
    assert caught.value.status == 503
    assert f"{len(done)} tasks" in caught.value.detail
    assert 4 <= len(done) < 7


async def test_no_call_begins_once_the_server_stops(bulk: Bulk, store: SqliteStore) -> None:
    await add_tasks(store, 1)
    await bulk.stop()

    with pytest.raises(Problem):
        await bulk.apply(ALL, cancelled)

    assert set((await states(store)).values()) == {TaskState.WAITING}
