"""Bulk changes: slices, order, what is skipped, and their end before their time."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from poussetaches.api import bulk_edit
from poussetaches.api.bulk_edit import BulkEditor, BulkResult
from poussetaches.api.problems import Problem
from poussetaches.core.changes import Changes
from poussetaches.core.edits import Cancel, Requeue, Run
from poussetaches.core.errors import OutcomeUnknown, StoreUnavailable
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import SECOND
from poussetaches.core.task import TaskState
from poussetaches.store.base import Change, News
from poussetaches.store.sqlite import SqliteStore, edit_writes
from tests.factories import NOW, make_task
from tests.fakes import let_run
from tests.store.sqlite_files import Disk, opened, sqlite_error

ALL = TaskFilter()


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edit_writes, "SLICE", 2)
    monkeypatch.setattr(bulk_edit, "SELECT_LIMIT", 3)


@pytest.fixture
def bulk(store: SqliteStore) -> BulkEditor:
    return BulkEditor(store=store, now=lambda: NOW)


async def add_tasks(store: SqliteStore, count: int) -> list[str]:
    ids = [f"task-{place}" for place in range(count)]
    for task_id in ids:
        await store.add(make_task(task_id))
    return ids


CANCEL = Cancel(NOW)


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


class Stopper:
    """Stops bulk calls once a few tasks have died."""

    def __init__(self, bulk: BulkEditor) -> None:
        self.stopping: list[asyncio.Future[None]] = []
        self._bulk = bulk
        self._died = 0

    def committed(self, news: News) -> None:
        """Count the deaths."""
        self._died += sum(told.change is Change.DIED for told in news.tasks)
        if self._died >= 3 and not self.stopping:
            self.stopping.append(asyncio.ensure_future(self._bulk.stop()))


@pytest.mark.parametrize("done", [0, 1, 2], ids=lambda done: f"{done} slices")
async def test_store_that_fails_after_some_slices_leaves_a_change_that_is_not_undone(
    done: int,
) -> None:
    disk = BreakingDisk()
    async with opened(None, disk=disk) as store:
        await add_tasks(store, 5)
        disk.commits_left = done

        with pytest.raises(StoreUnavailable) as caught:
            await BulkEditor(store=store, now=lambda: NOW).apply(ALL, CANCEL)

        dead = [id for id, state in (await states(store)).items() if state is TaskState.DEAD]
    assert len(dead) == 2 * done
    assert isinstance(caught.value, OutcomeUnknown) is (done > 0)
    assert f"{2 * done} tasks were changed" in str(caught.value) or not done


async def test_tasks_are_edited_in_the_order_of_their_pushes(
    bulk: BulkEditor, store: SqliteStore
) -> None:
    ids = await add_tasks(store, 7)

    done = await bulk.apply(ALL, Run(at=NOW, spread=7.0))

    page = await store.tasks(ALL, after=None, limit=100)
    run_at = {task.id: task.run_at for task in page.tasks}
    assert done == BulkResult(7, {})
    assert [run_at[task_id] for task_id in ids] == [NOW + place * SECOND for place in range(7)]


async def test_what_is_refused_is_counted_by_reason_over_all_slices(
    bulk: BulkEditor, store: SqliteStore
) -> None:
    await add_tasks(store, 5)
    await bulk.apply(TaskFilter(ids=("task-1", "task-4")), CANCEL)
    changes = Changes(labels={str(number): "" for number in range(17)})

    done = await bulk.apply(ALL, Requeue(at=NOW, changes=changes))

    reason = "labels: there would be 17; at most 16 are allowed"
    assert done == BulkResult(0, {"waiting": 3, reason: 2})


async def test_dry_run_counts_what_would_be_done_and_changes_nothing(
    bulk: BulkEditor, store: SqliteStore
) -> None:
    await add_tasks(store, 5)
    await bulk.apply(TaskFilter(ids=("task-1", "task-3")), CANCEL)
    before = await states(store)

    counted = await bulk.apply(ALL, CANCEL, dry_run=True)

    assert counted == BulkResult(3, {"dead": 2})
    assert await states(store) == before
    assert await bulk.apply(ALL, CANCEL) == counted


async def test_call_goes_on_when_its_caller_is_gone(bulk: BulkEditor, store: SqliteStore) -> None:
    await add_tasks(store, 7)
    calling = asyncio.ensure_future(bulk.apply(ALL, CANCEL))
    await let_run(1)

    calling.cancel()
    await let_run()

    assert set((await states(store)).values()) == {TaskState.DEAD}


async def test_call_ends_after_its_slice_when_the_server_stops(
    bulk: BulkEditor, store: SqliteStore
) -> None:
    await add_tasks(store, 7)
    stopper = Stopper(bulk)
    store.listen(stopper)

    with pytest.raises(Problem) as caught:
        await bulk.apply(ALL, CANCEL)
    await stopper.stopping[0]

    done = [state for state in (await states(store)).values() if state is TaskState.DEAD]
    assert caught.value.status == 503
    assert f"{len(done)} tasks" in caught.value.detail
    assert 4 <= len(done) < 7


async def test_no_call_begins_once_the_server_stops(bulk: BulkEditor, store: SqliteStore) -> None:
    await add_tasks(store, 1)
    await bulk.stop()

    with pytest.raises(Problem):
        await bulk.apply(ALL, CANCEL)

    assert set((await states(store)).values()) == {TaskState.WAITING}
