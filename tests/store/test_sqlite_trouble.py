from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from poussetaches.core.edits import Delete
from poussetaches.core.errors import (
    CannotOpenStore,
    OutcomeUnknown,
    StoreFull,
    StoreUnavailable,
)
from poussetaches.core.moment import DAY, Moment
from poussetaches.core.queue import Queue, Retention
from poussetaches.core.task import Bury, Complete, Reason, RetryAt, TaskState
from poussetaches.store.base import News, Push
from poussetaches.store.sqlite import SqliteStore, connection_pair, database
from poussetaches.store.sqlite.reserve import Reserve
from poussetaches.store.sqlite.row_reader import Reading
from tests.factories import NOW, make_ended, make_schedule, make_task
from tests.store.driving import (
    Notes,
    assert_counts_are_true,
    end,
    fire,
    known,
    lease_all,
    lease_one,
    put_schedule,
)
from tests.store.sqlite_files import (
    BROKEN,
    FULL,
    Disk,
    content_of,
    inline_store,
    move,
    opened,
    overwrite,
    put,
    raw,
    remove,
    sqlite_error,
)

LATER = Moment(NOW + 60_000_000)
SIZE = 10_000  # of the reserve, in bytes


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def reserve(tmp_path: Path) -> Path:
    return tmp_path / "reserve"


@pytest.fixture
async def store(path: Path, reserve: Path, disk: Disk) -> AsyncIterator[SqliteStore]:
    async with opened(path, disk=disk, reserve=Reserve(reserve, SIZE)) as store:
        yield store


async def fail_a_write(store: SqliteStore, disk: Disk, error: sqlite3.Error) -> None:
    """Fail one write; the disk works again afterwards."""
    disk.error = error
    with pytest.raises(StoreUnavailable):
        await store.set_paused(True)
    disk.error = None


async def fail_tidying(store: SqliteStore, disk: Disk) -> None:
    """Fail a commit of ``tidy`` that nevertheless reaches the disk."""
    disk.error, disk.keeps_what_fails = BROKEN, True
    with pytest.raises(StoreUnavailable):
        await store.tidy(now=Moment(NOW + 2 * DAY), limit=100)
    disk.error = None
    await store.recover()


def empty_the_log(path: Path) -> None:
    """Empty the log, so that it cannot repair a damaged database."""
    with closing(raw(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def test_commit_on_a_full_disk_fails_for_every_caller(
    store: SqliteStore, disk: Disk
) -> None:
    notes = Notes()
    store.listen(notes)
    disk.error = FULL

    results = await asyncio.gather(
        *(store.add(make_task(str(n))) for n in range(3)),
        store.set_paused(True),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [StoreFull] * 4
    assert [await store.get(str(n)) for n in range(3)] == [None] * 3
    assert (notes.waits, notes.pauses) == ([], [])
    await assert_counts_are_true(store, [])


async def test_full_disk_is_trouble_of_the_store(
    store: SqliteStore, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    await fail_a_write(store, disk, FULL)

    assert store.trouble is not None
    assert store.trouble.full is True
    assert "disk is full" in store.trouble.reason
    assert [(r.levelno, r.message) for r in caplog.records] == [
        (logging.ERROR, "store cannot be written")
    ]


@pytest.mark.parametrize("error", [FULL, BROKEN], ids=["full", "broken"])
async def test_new_trouble_is_reported_once(
    store: SqliteStore, disk: Disk, error: sqlite3.Error
) -> None:
    """The report wakes the loop that recovers the store."""
    notes = Notes()
    store.listen(notes)

    for _ in range(2):
        await fail_a_write(store, disk, error)

    assert notes.news == [News(trouble=True)]


async def test_reserve_is_released_on_a_full_disk(
    store: SqliteStore, disk: Disk, reserve: Path
) -> None:
    before = content_of(reserve)
    await fail_a_write(store, disk, FULL)

    assert before == bytes(SIZE)
    assert content_of(reserve) is None


def test_reserve_is_claimed_when_the_store_opens(store: SqliteStore, reserve: Path) -> None:
    # Space that was never written may not be available later.
    assert reserve.stat().st_blocks * 512 >= SIZE
    assert store.trouble is None


async def test_full_store_refuses_new_tasks(store: SqliteStore, disk: Disk) -> None:
    await put_schedule(store, make_schedule("s"))
    await fail_a_write(store, disk, FULL)

    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.add(make_task("a")),
        lambda: store.restore([(make_task("b"), [])]),
        lambda: store.push([Push(task=make_task("c"))], now=NOW),
        lambda: put_schedule(store, make_schedule("t")),
        lambda: store.replace_schedules("app", None, [make_schedule("u", owner="app")], now=NOW),
        lambda: fire(store, make_schedule("s"), "run"),
        lambda: store.fire_by_hand("s", make_task("by hand")),
        lambda: store.edit_queue("mail", lambda _: Queue(name="mail")),
    ]
    for call in calls:
        with pytest.raises(StoreFull):
            await call()


async def test_full_store_accepts_edits(store: SqliteStore, disk: Disk) -> None:
    await store.add(make_task("a"))
    await put_schedule(store, make_schedule("s"))
    await fail_a_write(store, disk, FULL)

    await store.edit("a", Delete(), now=NOW)
    await store.edit_schedule("s", lambda _: None, now=NOW)
    await store.edit_queue("default", lambda _: Queue(name="default", paused=True))

    assert await store.get("a") is None
    assert await store.schedule("s") is None
    assert (await store.queues())["default"].paused is True


async def test_full_store_records_ends_and_deletes_tasks(store: SqliteStore, disk: Disk) -> None:
    for id in "abc":
        await store.add(make_task(id))
    await store.add(make_task("expiring", run_at=LATER, expires_at=NOW))
    await store.restore([(make_ended("old", TaskState.DEAD, ended_at=Moment(0)), [])])
    leases = await lease_all(store)
    await fail_a_write(store, disk, FULL)

    completed = await end(store, leases["a"], Complete())
    failed = await end(store, leases["b"], RetryAt(LATER))
    expired = await store.expire(now=NOW, limit=10)
    keep = Retention(count=1000, age=86_400.0)
    pruned = await store.prune("default", TaskState.DEAD, keep, now=NOW, limit=10)

    assert (completed, failed, expired, pruned) == (True, True, 1, 1)
    assert (await known(store, "a")).state is TaskState.SUCCEEDED
    await assert_counts_are_true(store, ["a", "b", "c", "expiring"])


async def test_end_on_a_full_disk_can_be_recorded_later(store: SqliteStore, disk: Disk) -> None:
    await store.add(make_task("a"))
    lease = await lease_one(store)
    disk.error = FULL
    with pytest.raises(StoreFull):
        await end(store, lease, Complete())
    state = (await known(store, "a")).state
    disk.error = None

    was_ours = await end(store, lease, Complete())

    assert (state, was_ours) == (TaskState.RUNNING, True)
    assert len(await store.attempts("a")) == 1
    await assert_counts_are_true(store, ["a"])


async def test_full_store_accepts_pushes_once_it_has_recovered(
    store: SqliteStore, disk: Disk, reserve: Path
) -> None:
    await fail_a_write(store, disk, FULL)

    await store.recover()
    await store.add(make_task("a"))

    assert store.trouble is None
    assert content_of(reserve) == bytes(SIZE)
    assert await store.get("a") == make_task("a")


async def test_store_stays_full_until_its_reserve_is_back(
    path: Path, tmp_path: Path, disk: Disk
) -> None:
    # Without the folder, the reserve cannot be allocated.
    reserve = Reserve(tmp_path / "missing" / "reserve", SIZE)
    async with opened(path, disk=disk, reserve=reserve) as store:
        before = store.trouble
        with pytest.raises(StoreFull):
            await store.recover()
        with pytest.raises(StoreFull):
            await store.add(make_task("a"))
        (tmp_path / "missing").mkdir()

        await store.recover()
        await store.add(make_task("a"))

    assert before is not None
    assert before.full is True


# Enlarging the log's index failed after the log was written.
INDEX_FULL = sqlite3.SQLITE_IOERR | 19 << 8


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        pytest.param(BROKEN.sqlite_errorcode, OutcomeUnknown, id="sync failed"),
        pytest.param(sqlite3.SQLITE_IOERR, OutcomeUnknown, id="I/O error"),
        pytest.param(INDEX_FULL, OutcomeUnknown, id="no room for the index"),
        pytest.param(sqlite3.SQLITE_READONLY, OutcomeUnknown, id="read-only"),
        pytest.param(sqlite3.SQLITE_IOERR_WRITE, StoreUnavailable, id="write failed"),
        pytest.param(sqlite3.SQLITE_BUSY, StoreUnavailable, id="another process writes"),
    ],
)
async def test_commit_on_a_broken_disk_fails_for_every_caller(
    store: SqliteStore, disk: Disk, code: int, kind: type[StoreUnavailable]
) -> None:
    """The error says whether the push may be on disk."""
    disk.error = sqlite_error(code)

    results = await asyncio.gather(
        *(store.add(make_task(str(n))) for n in range(3)), return_exceptions=True
    )

    assert [type(result) for result in results] == [kind] * 3
    assert {"cannot be used at the moment" in str(result) for result in results} == {True}
    assert store.trouble is not None
    assert store.trouble.full is False
    await assert_counts_are_true(store, [])


async def test_error_of_one_caller_is_no_trouble(store: SqliteStore) -> None:
    await store.add(make_task("a"))

    results = await asyncio.gather(
        store.add(make_task("a")), store.add(make_task("b")), return_exceptions=True
    )

    assert [type(result) for result in results] == [sqlite3.IntegrityError, type(None)]
    assert store.trouble is None
    await assert_counts_are_true(store, ["a", "b"])


async def test_broken_store_refuses_writes_until_it_has_recovered(
    store: SqliteStore, disk: Disk
) -> None:
    await store.add(make_task("a"))
    lease = await lease_one(store)
    await fail_a_write(store, disk, BROKEN)

    results = await asyncio.gather(
        store.add(make_task("b")),
        end(store, lease, Complete()),
        store.expire(now=NOW, limit=1),
        store.set_paused(False),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [StoreUnavailable] * 4


async def test_broken_store_can_be_read(store: SqliteStore, disk: Disk) -> None:
    await store.add(make_task("a"))
    await fail_a_write(store, disk, BROKEN)

    assert await store.get("a") == make_task("a")


async def test_recovered_store_keeps_its_leases(store: SqliteStore, disk: Disk) -> None:
    await store.add(make_task("a"))
    lease = await lease_one(store)
    await fail_a_write(store, disk, BROKEN)

    await store.recover()

    assert store.trouble is None
    assert await lease_all(store) == {}
    assert await end(store, lease, RetryAt(LATER)) is True
    await assert_counts_are_true(store, ["a"])


@pytest.mark.parametrize(
    "move",
    [Complete(), RetryAt(LATER), Bury(Reason.EXHAUSTED)],
    ids=lambda move: type(move).__name__,
)
async def test_end_that_reached_the_disk_though_its_commit_failed_is_recorded_once(
    store: SqliteStore, disk: Disk, move: Complete | RetryAt | Bury
) -> None:
    """After a failed sync, only reading the file again shows whether the commit exists."""
    await store.add(make_task("a"))
    lease = await lease_one(store)
    disk.error, disk.keeps_what_fails = BROKEN, True
    with pytest.raises(StoreUnavailable):
        await end(store, lease, move)
    disk.error = None
    await store.recover()

    was_ours = await end(store, lease, move)

    assert was_ours is False
    assert len(await store.attempts("a")) == 1
    await assert_counts_are_true(store, ["a"])


async def test_task_put_back_though_its_commit_failed_can_be_put_back_again(
    store: SqliteStore, disk: Disk
) -> None:
    await store.add(make_task("a"))
    lease = await lease_one(store)
    disk.error, disk.keeps_what_fails = BROKEN, True
    with pytest.raises(StoreUnavailable):
        await store.give_back(lease, now=NOW, error="refused")
    disk.error = None
    await store.recover()

    await store.give_back(lease, now=NOW, error="refused")

    assert (await known(store, "a")).state is TaskState.WAITING
    await assert_counts_are_true(store, ["a"])


async def test_run_cancelled_though_the_commit_failed_is_not_repeated(
    store: SqliteStore, disk: Disk
) -> None:
    await put_schedule(store, make_schedule("s"))
    await fire(store, make_schedule("s"), "a")
    lease = await lease_one(store)
    disk.error, disk.keeps_what_fails = BROKEN, True
    with pytest.raises(StoreUnavailable):
        await store.delete_schedules("original", now=NOW)
    disk.error = None
    await store.recover()

    await end(store, lease, RetryAt(LATER))

    assert (await known(store, "a")).reason is Reason.CANCELLED
    await assert_counts_are_true(store, ["a"])


async def test_queue_changed_by_a_failed_commit_is_reported_after_the_recovery(
    store: SqliteStore, disk: Disk
) -> None:
    notes = Notes()
    store.listen(notes)
    disk.error, disk.keeps_what_fails = BROKEN, True
    with pytest.raises(StoreUnavailable):
        await store.add(make_task("a", queue="mail"))
    before = dict(notes.queues)
    disk.error = None

    await store.recover()

    assert before == {}
    assert notes.queues == {"mail": Queue(name="mail")}
    assert sorted(await store.queues()) == ["default", "mail"]


async def test_lane_deleted_by_a_failed_commit_is_created_again(
    store: SqliteStore, disk: Disk
) -> None:
    await store.add(make_task("a"))
    await end(store, await lease_one(store), Complete())
    await fail_tidying(store, disk)

    await store.add(make_task("b"))  # the clock has been set back

    assert list(await lease_all(store)) == ["b"]


async def test_failure_group_deleted_by_a_failed_commit_is_created_again(
    store: SqliteStore, disk: Disk
) -> None:
    await store.add(make_task("a"))
    await end(store, await lease_one(store), Bury(Reason.EXHAUSTED))
    await store.edit("a", Delete(), now=NOW)
    await fail_tidying(store, disk)

    await store.add(make_task("b"))
    await end(store, await lease_one(store), Bury(Reason.EXHAUSTED))

    assert [one.example_id for one in await store.failures(TaskState.DEAD)] == ["b"]


async def test_missing_database_is_never_created_again(
    store: SqliteStore, disk: Disk, path: Path
) -> None:
    await store.add(make_task("a"))
    await fail_a_write(store, disk, BROKEN)
    remove(path)

    with pytest.raises(StoreUnavailable, match="is missing"):
        await store.recover()

    assert content_of(path) is None
    assert store.trouble is not None
    with pytest.raises(StoreUnavailable):
        await store.add(make_task("b"))


async def test_database_that_has_become_empty_is_not_used(
    store: SqliteStore, disk: Disk, path: Path
) -> None:
    await fail_a_write(store, disk, BROKEN)
    empty_the_log(path)
    overwrite(path, b"")

    with pytest.raises(StoreUnavailable, match="it has become empty"):
        await store.recover()

    assert content_of(path) == b""
    with pytest.raises(StoreUnavailable):
        await store.get("a")


async def test_damaged_database_is_not_used(store: SqliteStore, disk: Disk, path: Path) -> None:
    await fail_a_write(store, disk, BROKEN)
    empty_the_log(path)
    overwrite(path, b"x" * 8192)

    with pytest.raises(StoreUnavailable, match="is damaged"):
        await store.recover()

    assert content_of(path) == b"x" * 8192


async def test_replaced_database_is_not_used(
    store: SqliteStore, disk: Disk, path: Path, tmp_path: Path
) -> None:
    async with opened(tmp_path / "other.db"):
        pass
    await fail_a_write(store, disk, BROKEN)
    put(path, (tmp_path / "other.db").read_bytes())

    with pytest.raises(StoreUnavailable, match="was replaced by another file"):
        await store.recover()

    assert content_of(path) == content_of(tmp_path / "other.db")


@pytest.mark.parametrize("name", ["tasks.db", "tasks.db-wal"])
async def test_push_is_not_acknowledged_once_the_files_were_moved(
    store: SqliteStore, path: Path, tmp_path: Path, name: str
) -> None:
    """An open file accepts writes after it was moved or deleted."""
    file = path.with_name(name)
    move(file, tmp_path / "away")

    with pytest.raises(StoreUnavailable, match=f"{name} is missing"):
        await store.add(make_task("a"))

    assert store.trouble is not None
    assert store.trouble.full is False
    assert content_of(file) is None
    move(tmp_path / "away", file)
    await store.recover()
    await store.add(make_task("b"))


async def test_push_whose_files_moved_during_its_commit_may_have_been_stored(
    tmp_path: Path,
) -> None:
    folder, away = tmp_path / "data", tmp_path / "away"
    folder.mkdir()

    def commit_and_move(connection: sqlite3.Connection) -> None:
        connection.execute("COMMIT")
        if moving:
            folder.rename(away)

    moving = False
    disk = Disk()
    disk.commit = commit_and_move  # type: ignore[method-assign]
    async with opened(folder / "tasks.db", disk=disk) as store:
        await store.add(make_task("a"))
        moving = True
        with pytest.raises(OutcomeUnknown, match=r"tasks\.db is missing"):
            await store.add(make_task("b"))
        moving = False
        with pytest.raises(StoreUnavailable) as second:
            await store.add(make_task("c"))
        away.rename(folder)
        await store.recover()

        assert type(second.value) is StoreUnavailable
        assert sorted(await lease_all(store)) == ["a", "b"]


def size_of(path: Path) -> int:
    return path.stat().st_size


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
async def test_truncated_log_is_noticed_before_the_next_push_is_acknowledged(
    store: SqliteStore, path: Path, share: float
) -> None:
    """The next start reads nothing after a gap in the log."""
    for id in "abc":
        await store.add(make_task(id))
    log = path.with_name("tasks.db-wal")
    cut(log, int(size_of(log) * share))

    with pytest.raises(StoreUnavailable, match=r"tasks\.db-wal was cut short") as caught:
        await store.add(make_task("d"))

    assert not isinstance(caught.value, OutcomeUnknown)
    assert store.trouble is not None
    assert store.trouble.full is False
    await store.recover()
    await store.add(make_task("e"))
    with closing(raw(path)) as database:  # as the next start reads it
        found = {id for (id,) in database.execute("SELECT id FROM tasks")}
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert {"e"} <= found <= {"a", "b", "c", "e"}
    await assert_counts_are_true(store, sorted(found))


async def test_truncated_log_is_noticed_before_pages_are_freed(
    store: SqliteStore, path: Path
) -> None:
    for id in "abc":
        await store.add(make_task(id, body=bytes(100_000)))
        await store.edit(id, Delete(), now=NOW)
    cut(path.with_name("tasks.db-wal"), 0)

    with pytest.raises(StoreUnavailable, match=r"tasks\.db-wal was cut short"):
        await store.shrink()

    assert store.trouble is not None


async def test_memory_error_while_pages_are_freed_fails_no_write(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: sqlite3.Connection) -> None:
        raise MemoryError

    await store.add(make_task("large", body=bytes(100_000)))
    await store.edit("large", Delete(), now=NOW)
    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable, match="out of memory"):
        patch.setattr(connection_pair, "number_commit", fail)
        await store.shrink()

    await store.add(make_task("a"))

    assert store.trouble is None


async def test_unexpected_error_while_recovering_is_raised_and_the_next_try_recovers(
    store: SqliteStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``StoreUnavailable``, it would be retried forever without being logged."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    disk.error = BROKEN
    with pytest.raises(StoreUnavailable):
        await store.add(make_task("a"))
    disk.error = None
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(database, "commit_nothing", fail)
        await store.recover()

    await store.recover()
    await store.add(make_task("b"))

    assert store.trouble is None


def open_files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that this process has open."""
    links = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [link for link in links if folder in link.parents]


async def test_store_closes_its_files_when_its_log_can_no_longer_be_read(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = inline_store(path, disk=disk)
    await store.open()
    monkeypatch.setattr(connection_pair, "is_empty", fail)

    await store.close()

    assert open_files_in(path.parent) == []


async def test_memory_error_while_reading_is_unavailability_and_no_trouble(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable, match="out of memory"):
        patch.setattr(Reading, "task", fail)
        await store.get("a")

    assert store.trouble is None


async def test_truncated_log_is_not_checkpointed(path: Path, disk: Disk) -> None:
    """A part of the commits would corrupt the database."""
    async with opened(path, disk=disk) as store:
        await store.add(make_task("a"))
        empty_the_log(path)
        before = content_of(path)
        await store.add(make_task("b"))
        await store.add(make_task("c", body=bytes(50_000)))
        log = path.with_name("tasks.db-wal")
        cut(log, size_of(log) - 60_000)

    assert content_of(path) == before


async def test_reset_log_does_not_count_as_truncated(store: SqliteStore, path: Path) -> None:
    for id in "abc":
        await store.add(make_task(id))
        empty_the_log(path)

    await store.add(make_task("d"))

    assert store.trouble is None


async def test_truncated_database_is_noticed_and_not_changed(
    store: SqliteStore, path: Path
) -> None:
    await store.add(make_task("a"))
    empty_the_log(path)
    await store.add(make_task("b"))
    whole = content_of(path) or b""
    cut(path, len(whole) // 2)

    with pytest.raises(OutcomeUnknown, match=r"tasks\.db was cut short"):
        await store.add(make_task("c"))

    with pytest.raises(StoreUnavailable, match="pages are missing"):
        await store.recover()
    assert content_of(path) == whole[: len(whole) // 2]
    overwrite(path, whole)
    await store.recover()
    assert sorted(await lease_all(store)) == ["a", "b", "c"]


async def test_database_shrunk_by_the_store_does_not_count_as_truncated(
    store: SqliteStore, path: Path
) -> None:
    for n in range(40):
        await store.add(make_task(f"large {n}", body=bytes(50_000)))
    empty_the_log(path)
    await store.add(make_task("a"))
    before = size_of(path)
    for n in range(40):
        await store.edit(f"large {n}", Delete(), now=NOW)
    while await store.shrink():
        pass
    empty_the_log(path)
    shrunk = size_of(path)

    await store.add(make_task("b", body=bytes(500_000)))

    assert shrunk < before
    assert store.trouble is None


async def test_commit_checks_no_more_than_two_files(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each check releases the interpreter's lock."""
    looked_at: list[str] = []
    stat = os.stat

    def noted(path: Path, **options: bool) -> os.stat_result:
        looked_at.append(Path(path).name)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", noted)

    await store.add(make_task("a"))

    assert sorted(looked_at) == ["tasks.db", "tasks.db-wal"]


async def test_store_that_can_be_read_only_has_not_recovered(
    store: SqliteStore, disk: Disk
) -> None:
    await store.add(make_task("a"))
    disk.error = BROKEN
    with pytest.raises(StoreUnavailable):
        await store.set_paused(True)

    with pytest.raises(StoreUnavailable):
        await store.recover()

    assert store.trouble is not None
    disk.error = None
    await store.recover()
    assert store.trouble is None


async def test_log_without_its_database_is_kept(path: Path) -> None:
    """SQLite would delete the log, and start with nothing."""
    log = path.with_name("tasks.db-wal")
    overwrite(log, b"acknowledged")

    for _ in ("missing", "empty"):
        with pytest.raises(CannotOpenStore, match="its WAL is there"):
            await inline_store(path).open()
        overwrite(path, b"")

    assert content_of(log) == b"acknowledged"


async def test_store_recovers_once_its_folder_returns(tmp_path: Path, disk: Disk) -> None:
    folder, away = tmp_path / "data", tmp_path / "away"
    folder.mkdir()
    async with opened(folder / "tasks.db", disk=disk) as store:
        await store.add(make_task("a"))
        await fail_a_write(store, disk, BROKEN)
        folder.rename(away)
        with pytest.raises(StoreUnavailable):
            await store.recover()
        away.rename(folder)

        await store.recover()
        await store.add(make_task("b"))

        assert sorted(await lease_all(store)) == ["a", "b"]


async def test_broken_disk_takes_precedence_over_a_full_one(
    store: SqliteStore, disk: Disk, path: Path
) -> None:
    """Recovering from a full disk alone would go on with a connection that failed."""
    await fail_a_write(store, disk, FULL)
    await fail_a_write(store, disk, BROKEN)
    remove(path)

    with pytest.raises(StoreUnavailable) as caught:
        await store.recover()

    assert not isinstance(caught.value, StoreFull)
    assert store.trouble is not None
    assert store.trouble.full is False


async def test_broken_store_can_be_closed(path: Path, disk: Disk) -> None:
    store = inline_store(path, disk=disk)
    await store.open()
    await fail_a_write(store, disk, BROKEN)

    await store.close()

    assert content_of(path)


async def test_store_in_memory_recovers_with_its_tasks(disk: Disk) -> None:
    async with opened(None, disk=disk) as store:
        await store.add(make_task("a"))
        await fail_a_write(store, disk, BROKEN)

        await store.recover()

        assert await store.get("a") == make_task("a")


class StuckReserve(Reserve):
    """A reserve that cannot be deleted, as on a full copy-on-write file system."""

    def release(self) -> None:
        """Fail."""
        raise OSError(28, "No space left on device")


async def test_write_is_answered_though_the_reserve_cannot_be_deleted(
    path: Path, disk: Disk, reserve: Path
) -> None:
    async with opened(path, disk=disk, reserve=StuckReserve(reserve, SIZE)) as store:
        disk.error = FULL

        async with asyncio.timeout(20):
            with pytest.raises(StoreFull):
                await store.add(make_task())

        disk.error = None
