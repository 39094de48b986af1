"""Only calls that change a row cost a commit, and so a sync."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from poussetaches.core import edits
from poussetaches.core.changes import NO_CHANGES
from poussetaches.core.edits import Delete, Patch
from poussetaches.core.errors import OutcomeUnknown, StoreUnavailable
from poussetaches.core.queue import Queue, Retention
from poussetaches.core.task import Complete, Reason, RetryAt, TaskState
from poussetaches.store.base import Push
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.wal import wal_of
from tests.factories import NOW, make_task
from tests.store.driving import assert_counts_are_true, end, known, lease_all, lease_one
from tests.store.sqlite_files import BROKEN, FULL, Disk, content_of, opened

KEEP = Retention(count=1000, age=86_400.0)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def store(tmp_path: Path, disk: Disk) -> AsyncIterator[SqliteStore]:
    async with opened(tmp_path / "tasks.db", disk=disk) as store:
        yield store


async def commits_of(disk: Disk, call: Awaitable[object]) -> int:
    """Return how many commits a call makes."""
    before = disk.commit_count
    await call
    return disk.commit_count - before


async def test_task_given_back_writes_nothing_to_the_disk(
    store: SqliteStore, disk: Disk, tmp_path: Path
) -> None:
    await store.add(make_task("a"))
    lease = await lease_one(store)
    log = wal_of(tmp_path / "tasks.db")
    before = content_of(log)

    commits = await commits_of(disk, store.give_back(lease, now=NOW))

    assert (commits, content_of(log) == before) == (0, True)
    assert (await known(store, "a")).state is TaskState.WAITING


async def test_error_of_a_task_given_back_is_written_once(store: SqliteStore, disk: Disk) -> None:
    await store.add(make_task("a"))
    commits = [
        await commits_of(disk, store.give_back(await lease_one(store), now=NOW, error=error))
        for error in ("refused", "refused", None, "reset")
    ]

    assert commits == [1, 0, 0, 1]
    assert (await known(store, "a")).last_error == "reset"


async def test_many_tasks_given_back_beside_an_outcome_share_its_commit(
    store: SqliteStore, disk: Disk
) -> None:
    ids = [f"{number}" for number in range(50)]
    await store.push([Push(task=make_task(id)) for id in ids], now=NOW)
    leases = await lease_all(store)
    failed = leases.pop("7")
    calls = [store.give_back(lease, now=NOW) for lease in leases.values()]

    commits = await commits_of(disk, asyncio.gather(*calls, end(store, failed, RetryAt(NOW))))

    assert commits == 1
    assert len(await lease_all(store)) == 50
    await assert_counts_are_true(store, ids)


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.tidy(now=NOW, limit=10),
        lambda store: store.expire(now=NOW, limit=10),
        lambda store: store.prune("default", TaskState.DEAD, KEEP, now=NOW, limit=10),
        lambda store: store.edit("a", Patch(NO_CHANGES), now=NOW),
        lambda store: store.edit("nobody", Patch(NO_CHANGES), now=NOW),
        lambda store: store.push([Push(task=make_task("b", key="k"))], now=NOW),
    ],
    ids=["tidy", "expire", "prune", "edit", "edit of nothing", "push of a known key"],
)
async def test_call_that_changes_nothing_costs_no_commit(
    store: SqliteStore, disk: Disk, call: Callable[[SqliteStore], Awaitable[object]]
) -> None:
    await store.push([Push(task=make_task("a", key="k"))], now=NOW)

    assert await commits_of(disk, call(store)) == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.add(make_task("b")),
        lambda store: store.edit("a", Delete(), now=NOW),
        lambda store: store.edit_queue("mail", lambda _: Queue(name="mail")),
        lambda store: store.set_paused(True),
        lambda store: store.push([Push(task=make_task("b", key="other"))], now=NOW),
    ],
    ids=["add", "delete", "new queue", "pause", "push"],
)
async def test_call_that_changes_a_row_costs_one_commit(
    store: SqliteStore, disk: Disk, call: Callable[[SqliteStore], Awaitable[object]]
) -> None:
    await store.add(make_task("a"))

    assert await commits_of(disk, call(store)) == 1


async def test_opening_writes_to_the_disk(disk: Disk, tmp_path: Path) -> None:
    """A start must fail on a disk that cannot be written."""
    disk.error = BROKEN
    with pytest.raises(StoreUnavailable):
        async with opened(tmp_path / "tasks.db", disk=disk):
            pass


async def test_task_is_given_back_though_the_disk_is_full(store: SqliteStore, disk: Disk) -> None:
    for id in "ab":
        await store.add(make_task(id))
    leases = await lease_all(store)
    disk.error = FULL
    with pytest.raises(StoreUnavailable):
        await end(store, leases["a"], Complete())

    assert await store.give_back(leases["b"], now=NOW) is True
    assert list(await lease_all(store)) == ["b"]


async def test_task_is_not_given_back_while_its_row_is_unknown(
    store: SqliteStore, disk: Disk
) -> None:
    """The failed commit may have cancelled it, so it must not be sent again."""
    await store.add(make_task("a"))
    lease = await lease_one(store)
    disk.error, disk.keeps_what_fails = BROKEN, True
    with pytest.raises(OutcomeUnknown):
        await store.edit("a", edits.Cancel(NOW), now=NOW)

    with pytest.raises(StoreUnavailable):
        await store.give_back(lease, now=NOW)

    disk.error = None
    await store.recover()
    assert await store.give_back(lease, now=NOW) is True
    assert (await known(store, "a")).reason is Reason.CANCELLED
