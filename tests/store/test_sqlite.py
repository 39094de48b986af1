from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from poussetaches.core.errors import CannotOpenStore
from poussetaches.core.moment import Moment
from poussetaches.core.task import Reason, RetryAt, TaskState
from poussetaches.store import open_store
from poussetaches.store.base import Store
from poussetaches.store.folder import DataFolder
from poussetaches.store.runner import InlineRunner, ThreadRunner
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.commit_number import format_of, read_version
from tests.factories import NOW, make_schedule, make_task, seeded
from tests.store.contract import StoreContract
from tests.store.driving import (
    assert_counts_are_true,
    end,
    fire,
    known,
    lease_all,
    lease_one,
    put_schedule,
)
from tests.store.sqlite_files import Disk, content_of, inline_store, opened, put, raw

LATER = Moment(NOW + 60_000_000)


class TestSqliteStoreInThreads(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = SqliteStore(
            tmp_path / "tasks.db",
            writer=ThreadRunner("writer"),
            reader=ThreadRunner("reader"),
            now=lambda: NOW,
            random=seeded(),
        )
        await store.open()
        yield store
        await store.close()


class TestSqliteStoreInline(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        async with opened(tmp_path / "tasks.db") as store:
            yield store


class TestSqliteStoreInMemory(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        async with opened(None) as store:
            yield store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


async def refusal(path: Path) -> str:
    with pytest.raises(CannotOpenStore) as caught:
        await inline_store(path).open()
    return str(caught.value)


def folder_files(path: Path) -> list[Path]:
    """Return the files in the folder of a path."""
    return sorted(path.parent.iterdir())


async def test_all_data_exists_after_reopening(path: Path) -> None:
    async with opened(path) as store:
        await store.add(make_task("a", body=b"\xff", queue="mail"))
        await store.add(make_task("b", run_at=LATER))
        await end(store, (await lease_all(store))["a"], RetryAt(LATER))
        await put_schedule(store, make_schedule("s"))
        await store.set_paused(True)
        before = await contents(store)

    async with opened(path) as store:
        assert await contents(store) == before
        assert await store.next_due() == {
            make_task(queue="mail").lane: LATER,
            make_task().lane: LATER,
        }


async def contents(store: Store) -> object:
    return (
        [await store.get(id) for id in "ab"],
        await store.attempts("a"),
        await store.schedules("original"),
        await store.paused(),
        await store.counts(),
    )


async def test_leased_task_waits_again_after_reopening(path: Path) -> None:
    async with opened(path) as store:
        await store.add(make_task("a"))
        await end(store, await lease_one(store), RetryAt(NOW))
        await lease_one(store)
        counted = (await store.attempts("a"), 1)

    async with opened(path) as store:
        task = await known(store, "a")
        assert (task.state, task.run_at) == (TaskState.WAITING, NOW)
        assert (await store.attempts("a"), task.attempt_count) == counted
        assert (await lease_one(store)).task == task
        await assert_counts_are_true(store, ["a"])


async def test_lease_from_before_a_restart_is_lost(path: Path) -> None:
    async with opened(path) as store:
        await store.add(make_task("a"))
        old = await lease_one(store)

    async with opened(path) as store:
        was_ours = await store.give_back(old, now=NOW)

        assert was_ours is False


async def test_run_cancelled_while_it_ran_is_dead_after_reopening(path: Path) -> None:
    async with opened(path) as store:
        await put_schedule(store, make_schedule("s"))
        await fire(store, make_schedule("s"), "a")
        await lease_one(store)
        await store.delete_schedules("original", now=NOW)

    async with opened(path) as store:
        task = await known(store, "a")
        assert (task.state, task.reason) == (TaskState.DEAD, Reason.CANCELLED)
        await assert_counts_are_true(store, ["a"])


async def test_number_of_a_deleted_task_is_not_reused(path: Path) -> None:
    """A caller that still has the number must not confuse another task with the deleted one."""
    async with opened(path) as store:
        await put_schedule(store, make_schedule("s"))
        await fire(store, make_schedule("s"), "a")
        await store.delete_schedules("original", now=NOW)
        await store.add(make_task("b"))

    with closing(raw(path)) as database:
        assert database.execute("SELECT seq, id FROM tasks").fetchall() == [(2, "b")]


async def test_open_store_works_in_a_folder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.lock()

    store = await open_store(folder, now=lambda: NOW, random=seeded(), window=0.0)
    await store.add(make_task("a"))
    await store.close()
    folder.unlock()

    assert len(content_of(folder.reserve) or b"") == 16 * 1024 * 1024
    with closing(raw(folder.database)) as database:
        assert database.execute("SELECT id FROM tasks").fetchall() == [("a",)]


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        pytest.param("synchronous", 2, id="each commit is synced"),
        pytest.param("journal_mode", "wal", id="write-ahead log"),
        pytest.param("auto_vacuum", 2, id="room can be given back"),
    ],
)
async def test_writing_connection_has_setting(path: Path, pragma: str, value: object) -> None:
    disk = Disk()
    async with opened(path, disk=disk) as store:
        await store.add(make_task())

        assert disk.pragma(pragma) == value


async def test_space_of_deleted_tasks_is_returned_to_the_disk(path: Path) -> None:
    async with opened(path) as store:
        await put_schedule(store, make_schedule("s"))
        for n in range(40):
            run = make_task(str(n), schedule="s", body=b"x" * 50_000)
            await store.add(run)
        await store.delete_schedules("original", now=NOW)

        await store.shrink()

    assert len(content_of(path) or b"") < 200_000


async def test_new_database_is_of_the_newest_version(path: Path) -> None:
    async with opened(path):
        pass

    with closing(raw(path)) as database:
        assert format_of(read_version(database)) == 4
        assert database.execute("PRAGMA application_id").fetchone() == (0x706F7573,)


async def test_empty_file_becomes_a_database(path: Path) -> None:
    put(path, b"")

    async with opened(path) as store:
        await store.add(make_task("a"))

        assert await store.get("a") == make_task("a")


async def test_newer_version_is_refused_and_not_changed(path: Path) -> None:
    async with opened(path) as store:
        await store.add(make_task("a"))
    with closing(raw(path)) as database:
        database.execute("PRAGMA user_version = 5")
    before = content_of(path)

    message = await refusal(path)

    assert (
        "written by a newer version of poussetaches (format 5; this version knows up to 4)"
        in message
    )
    assert "install that version, or use another folder" in message
    assert content_of(path) == before


@pytest.mark.parametrize("version", [0, 1, 7])
async def test_database_of_another_program_is_refused_and_not_changed(
    path: Path, version: int
) -> None:
    with closing(raw(path)) as database:
        database.executescript(f"CREATE TABLE t (a); PRAGMA user_version = {version};")
    before = content_of(path)

    message = await refusal(path)

    assert f"{path} cannot be opened: it is another program's database" in message
    assert content_of(path) == before


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"not a database at all" * 1000, id="another format"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 8176, id="broken header"),
    ],
)
async def test_damaged_file_is_refused_and_not_changed(path: Path, content: bytes) -> None:
    put(path, content)

    message = await refusal(path)

    assert f"{path} is damaged" in message
    assert "then move it and its WAL to another folder, and put a backup in its place" in message
    assert content_of(path) == content
    assert folder_files(path) == [path]


async def test_path_without_a_folder_is_refused(tmp_path: Path) -> None:
    message = await refusal(tmp_path / "missing" / "tasks.db")

    assert "cannot be opened: unable to open database file" in message


async def test_store_that_could_not_be_opened_leaves_no_thread(path: Path) -> None:
    put(path, b"x" * 4096)
    runner = ThreadRunner("writer")
    store = SqliteStore(
        path, writer=runner, reader=InlineRunner(), now=lambda: NOW, random=seeded()
    )

    with pytest.raises(CannotOpenStore):
        await store.open()

    with pytest.raises(Exception, match="The store is closed"):
        await runner.run(lambda: None)


def test_sqlite_is_new_enough_for_the_tests() -> None:
    assert sqlite3.sqlite_version_info >= (3, 38), sqlite3.sqlite_version
