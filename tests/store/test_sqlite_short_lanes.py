"""Leasing without a query finds the same tasks as a query."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from poussetaches.core.edits import Cancel, Delete
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane, Retention
from poussetaches.core.task import Complete, RetryAt, Task, TaskState
from poussetaches.store.base import Lease, Push
from poussetaches.store.runner import InlineRunner
from poussetaches.store.sqlite import SqliteStore
from tests.factories import NOW, make_task
from tests.store.driving import (
    LANE,
    GiveBack,
    changed,
    edit_all,
    end,
    lease_all,
    numbers_of,
)
from tests.store.sqlite_files import Disk, inline_store

R = TypeVar("R")

LATER = Moment(NOW + 1_000_000)


class CountingRunner(InlineRunner):
    """Counts the brief functions: queries for due tasks."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Run a function, and count it if it is brief."""
        self.count += is_brief
        return await super().run(work)


@pytest.fixture
def runner() -> CountingRunner:
    return CountingRunner()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def store(tmp_path: Path, runner: CountingRunner, disk: Disk) -> AsyncIterator[SqliteStore]:
    store = inline_store(tmp_path / "tasks.db", writer=runner, disk=disk)
    await store.open()
    yield store
    await store.close()


async def push(store: SqliteStore, *ids: str, **fields: object) -> None:
    """Push tasks."""
    await store.push([Push(task=make_task(id, **fields)) for id in ids], now=NOW)


async def lease(
    store: SqliteStore, *, most: int = 10, now: Moment = NOW, lane: Lane = LANE
) -> dict[str, Lease]:
    """Lease due tasks of a lane."""
    leased = await store.lease_due({lane: most}, now=now)
    return {lease.task.id: lease for lease in leased.leases}


async def test_task_pushed_to_an_empty_lane_is_leased_without_a_query(
    store: SqliteStore, runner: CountingRunner
) -> None:
    await lease(store)
    before = runner.count
    await push(store, "a", "b", body=b"x", headers={"X-Own": "1"}, labels={"n": "1"}, timeout=2.5)

    leases = await lease(store)

    assert runner.count == before
    assert list(leases) == ["a", "b"]
    for leased in leases.values():
        task = await store.get(leased.task.id)
        assert task is not None
        assert task.state is TaskState.RUNNING
        assert leased.task == waiting(task)


def waiting(task: Task) -> Task:
    """Return a running task as it was leased."""
    return msgspec.structs.replace(task, state=TaskState.WAITING)


async def test_every_task_is_leased_once_whether_known_or_queried(store: SqliteStore) -> None:
    other = make_task(queue="other").lane
    await lease(store)
    await push(store, "a", "b")
    await push(store, "c", queue="other")

    leased = await store.lease_due({LANE: 1, other: 1}, now=NOW)
    more = await store.lease_due({LANE: 5, other: 5}, now=NOW)

    assert [lease.task.id for lease in leased.leases + more.leases] == ["c", "a", "b"]
    assert leased.next_due == {LANE: NOW, other: None}
    assert more.next_due == {LANE: None, other: None}


async def test_task_that_is_not_due_is_not_leased(store: SqliteStore) -> None:
    await lease(store)
    await push(store, "a", run_at=LATER)

    found = await store.lease_due({LANE: 1}, now=NOW)

    assert (found.leases, found.next_due) == ([], {LANE: LATER})
    assert list(await lease(store, now=LATER)) == ["a"]


async def test_tasks_that_may_have_expired_are_queried(store: SqliteStore) -> None:
    await lease(store)
    await push(store, "expired", expires_at=NOW)
    await push(store, "b")

    found = await store.lease_due({LANE: 5}, now=NOW, skip_expired=True)

    assert [lease.task.id for lease in found.leases] == ["b"]
    assert list(await lease(store)) == ["expired"]


async def retry(store: SqliteStore) -> None:
    """End an attempt by a failure."""
    [leased] = (await lease(store, most=1)).values()
    await end(store, leased, RetryAt(NOW))


async def give_back(store: SqliteStore) -> None:
    """Give a lease back."""
    [leased] = (await lease(store, most=1)).values()
    await end(store, leased, GiveBack())


async def replace(store: SqliteStore) -> None:
    """Push a task twice; the second push replaces its body."""
    for body in (b"old", b"new"):
        task = make_task(body.decode(), unique="u", body=body)
        await store.push([Push(task=task, replaces=True)], now=NOW)


async def edit_slice(store: SqliteStore) -> None:
    """Delete all tasks."""
    numbers = await numbers_of(store, TaskFilter())
    await edit_all(store, numbers, Delete())


@pytest.mark.parametrize(
    "change",
    [
        retry,
        give_back,
        replace,
        edit_slice,
        lambda store: store.edit("a", Delete(), now=NOW),
        lambda store: store.edit("a", Cancel(NOW), now=NOW),
        lambda store: store.edit("a", changed(body=b"other"), now=NOW),
        lambda store: store.edit("a", changed(queue="other"), now=NOW),
        lambda store: store.edit("a", changed(run_at=LATER), now=NOW),
        lambda store: store.edit("a", changed(priority=5), now=NOW),
        lambda store: store.expire(now=Moment(NOW + 10), limit=5),
        lambda store: store.restore([(make_task("restored"), [])]),
        lambda store: store.pull_back(now=Moment(NOW - 5), was=NOW, confirmed=NOW),
    ],
    ids=[
        *(
            "retry",
            "give back",
            "replace",
            "delete all",
            "delete",
            "cancel",
            "body",
            "queue",
            "run_at",
        ),
        *("priority", "expire", "restore", "pull back"),
    ],
)
async def test_changed_tasks_are_leased_as_they_are_now(
    store: SqliteStore, change: Callable[[SqliteStore], Awaitable[object]]
) -> None:
    await lease(store)
    await push(store, "a", "b", expires_at=Moment(NOW + 10))

    await change(store)
    leases = await lease(store, most=100, now=LATER)

    rest = await lease_all(store, now=LATER)
    stored = {
        task.id: task for task in (await store.tasks(TaskFilter(), after=None, limit=100)).tasks
    }
    running = {id for id, task in stored.items() if task.state is TaskState.RUNNING}
    in_lane = {id for id in running if stored[id].queue == "default"}
    assert set(leases) == in_lane
    assert set(leases) | set(rest) == running
    for id, leased in (leases | rest).items():
        found = await store.get(id)
        assert found is not None
        assert leased.task == waiting(found)


async def test_maintenance_does_not_make_the_next_lease_a_query(
    store: SqliteStore, runner: CountingRunner
) -> None:
    await push(store, "a")
    await end(store, (await lease(store))["a"], Complete())
    before = runner.count
    keep = Retention(count=0, age=0.0)
    await store.prune("default", TaskState.SUCCEEDED, keep, now=LATER, limit=10)
    await push(store, "b")

    leases = await lease(store)

    assert list(leases) == ["b"]
    assert runner.count == before
