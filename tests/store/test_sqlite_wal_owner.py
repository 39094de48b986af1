"""A log is replayed only onto the database that it continues."""

from __future__ import annotations

import io
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from poussetaches.core.edits import Delete
from poussetaches.core.errors import CannotOpenStore, CannotWriteFile
from poussetaches.core.filter import TaskFilter
from poussetaches.store import back_up_store, export_store, import_store, verify_store
from poussetaches.store.folder import DataFolder
from poussetaches.store.sqlite.commit_number import is_numbered, read_version
from poussetaches.store.sqlite.database import connect, prepare
from poussetaches.store.sqlite.migration import APPLICATION_ID
from poussetaches.store.sqlite.wal import journal_of, wal_index_of, wal_of
from poussetaches.store.sqlite.wal_owner import files_problem
from poussetaches.store.statements import load_migrations
from tests.factories import NOW, make_task, seeded
from tests.store.driving import assert_counts_are_true, found_by
from tests.store.sqlite_files import Disk, content_of, inline_store, opened, raw, remove

COMMITS = 40
BODY = b"x" * 3000


class SmallLog(Disk):
    """A disk on which the log is reset every few commits."""

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit the open transaction."""
        super().commit(connection)
        connection.execute("PRAGMA wal_autocheckpoint = 30")


class Snapshot(NamedTuple):
    """The files of a store after a kill, and the ids of its tasks."""

    database: bytes
    log: bytes
    ids: list[str]


def snapshot(path: Path, ids: list[str]) -> Snapshot:
    return Snapshot(content_of(path) or b"", content_of(wal_of(path)) or b"", sorted(ids))


def put_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Put files into an otherwise empty folder; return where its database is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / "tasks.db"


def put_pair(folder: Path, database: bytes, log: bytes) -> Path:
    """Put a database and a log into an otherwise empty folder."""
    return put_files(folder, {"tasks.db": database, "tasks.db-wal": log})


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "lock"}


async def ids_in(path: Path) -> list[str]:
    """Open a database as a server does; return the ids of its tasks."""
    async with opened(path) as store:
        found = await found_by(store, TaskFilter())
        await assert_counts_are_true(store, found)
        return sorted(found)


@pytest.fixture
async def history(tmp_path: Path) -> list[Snapshot]:
    """Return the files after each commit; some commits have a concurrent reader, or free pages."""
    path = tmp_path / "history.db"
    snapshots, ids = [], []
    async with opened(path, disk=SmallLog()) as store:
        with closing(raw(path)) as reader:
            for number in range(COMMITS):
                await store.add(make_task(f"{number:02}", body=BODY))
                ids.append(f"{number:02}")
                snapshots.append(snapshot(path, ids))
                if number % 9 == 4:
                    reader.execute("BEGIN").execute("SELECT count(*) FROM tasks").fetchone()
                if number % 9 == 8:
                    reader.execute("COMMIT")
                if number % 13 == 12:
                    await store.edit(ids.pop(0), Delete(), now=NOW)
                    await store.shrink()
                    snapshots.append(snapshot(path, ids))
    return snapshots


async def test_store_killed_after_any_commit_opens_with_all_its_tasks(
    tmp_path: Path, history: list[Snapshot]
) -> None:
    for each in history:
        path = put_pair(tmp_path / "killed", each.database, each.log)

        assert await ids_in(path) == each.ids


async def test_file_and_log_of_different_times_are_refused_unless_they_match(
    tmp_path: Path, history: list[Snapshot]
) -> None:
    refused, accepted = 0, 0
    for file in history:
        for log in history:
            path = put_pair(tmp_path / "mixed", file.database, log.log)
            if files_problem(path) is not None:
                refused += 1
            elif log is not file:
                accepted += 1
                assert await ids_in(path) == log.ids

    assert refused > accepted > COMMITS


class Folders(NamedTuple):
    """The folder of a killed server, its file after an earlier stop, and an empty folder."""

    killed: DataFolder
    stopped: bytes
    elsewhere: Path


Other = Callable[[Folders], Awaitable[bytes]]


async def new_database(path: Path, *ids: str) -> Path:
    async with opened(path) as store:
        for id in ids:
            await store.add(make_task(id))
    return path


@pytest.fixture
async def folders(tmp_path: Path) -> Folders:
    folder = DataFolder(tmp_path / "data")
    folder.path.mkdir()
    await new_database(folder.database, "early")
    stopped = folder.database.read_bytes()
    await new_database(folder.database, "later")
    async with opened(folder.database) as store:
        await store.add(make_task("last"))
        killed = snapshot(folder.database, [])
    put_pair(folder.path, killed.database, killed.log)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    return Folders(folder, stopped, elsewhere)


async def by_stopping(folders: Folders) -> bytes:
    return folders.stopped


async def of_another_folder(folders: Folders) -> bytes:
    return (await new_database(folders.elsewhere / "tasks.db", "other")).read_bytes()


async def by_import(folders: Folders) -> bytes:
    exported = io.BytesIO()
    folder = DataFolder(folders.elsewhere)
    await new_database(folder.database, "other")
    export_store(folder, exported.write, lambda *_: None, now=NOW)
    folder.database.unlink()
    exported.seek(0)
    await import_store(folder, exported, lambda *_: None, now=lambda: NOW, random=seeded())
    return folder.database.read_bytes()


async def by_backup(folders: Folders) -> bytes:
    """Return a backup of the state at the end of the log."""
    target = folders.elsewhere / "backup.db"
    back_up_store(folders.killed, target, lambda *_: None, replace=False)
    return target.read_bytes()


def make_version_1_0_0(connection: sqlite3.Connection) -> None:
    """Make a database of version 1.0.0 with an empty log."""
    number, script = load_migrations("sqlite")[0]
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(script)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {number}")
    connection.execute("PRAGMA wal_checkpoint")


async def of_version_1_0_0(folders: Folders) -> bytes:
    path = folders.elsewhere / "tasks.db"
    with closing(raw(path)) as connection:
        make_version_1_0_0(connection)
    return path.read_bytes()


OTHERS = [by_stopping, of_another_folder, by_import, by_backup, of_version_1_0_0]


@pytest.fixture(params=OTHERS)
async def mixed(request: pytest.FixtureRequest, folders: Folders) -> Folders:
    """Return the folders with another database beside the killed server's log."""
    other: Other = request.param
    folders.killed.database.write_bytes(await other(folders))
    return folders


async def test_database_put_beside_an_old_log_is_refused_and_nothing_is_changed(
    mixed: Folders,
) -> None:
    killed = mixed.killed
    before = files_of(killed.path)

    with pytest.raises(CannotOpenStore, match=r"tasks\.db-wal belongs to another database"):
        await inline_store(killed.database).open()
    with pytest.raises(CannotOpenStore, match=r"move tasks\.db-wal to another folder"):
        export_store(killed, io.BytesIO().write, lambda *_: None, now=NOW, salvage=True)
    with pytest.raises(CannotOpenStore, match=r"tasks\.db-wal belongs to another database"):
        back_up_store(killed, mixed.elsewhere / "copy.db", lambda *_: None, replace=False)

    assert files_of(killed.path) == before


def test_verify_reports_the_log_of_another_database_and_reads_only_the_file(
    mixed: Folders,
) -> None:
    killed = mixed.killed
    before = files_of(killed.path)

    report = verify_store(killed, lambda *_: None)

    assert ["belongs to another database" in found.what for found in report.problems] == [True]
    assert "only tasks.db was read" in report.notes[0]
    assert "move tasks.db-wal to another folder" in (report.advice or "")
    assert files_of(killed.path) == before


@pytest.mark.parametrize("other", OTHERS)
async def test_database_opens_once_the_log_of_another_was_moved_away(
    folders: Folders, other: Other
) -> None:
    killed = folders.killed
    content = await other(folders)
    original = killed.database.read_bytes()
    log = wal_of(killed.database).rename(folders.elsewhere / "log")
    killed.database.write_bytes(content)

    ids = await ids_in(killed.database)

    assert "last" not in ids or other is by_backup
    remove(killed.database)
    killed.database.write_bytes(original)
    log.rename(wal_of(killed.database))
    assert await ids_in(killed.database) == ["early", "last", "later"]


async def test_import_beside_the_log_of_another_database_is_refused(folders: Folders) -> None:
    exported = io.BytesIO()
    export_store(folders.killed, exported.write, lambda *_: None, now=NOW)
    exported.seek(0)
    folders.killed.database.unlink()
    before = files_of(folders.killed.path)

    with pytest.raises(CannotWriteFile, match=r"tasks\.db-wal beside it belongs to another"):
        await import_store(
            folders.killed, exported, lambda *_: None, now=lambda: NOW, random=seeded()
        )

    assert files_of(folders.killed.path) == before


def test_backup_beside_the_log_of_another_database_is_refused(folders: Folders) -> None:
    target = folders.elsewhere / "backup.db"
    wal_of(target).write_bytes(b"acknowledged")

    with pytest.raises(CannotWriteFile, match=r"backup\.db-wal beside it belongs to another"):
        back_up_store(folders.killed, target, lambda *_: None, replace=True)

    assert [each.name for each in folders.elsewhere.iterdir()] == ["backup.db-wal"]


@pytest.mark.parametrize("database", ["empty", "missing"])
def test_reading_a_folder_without_its_database_keeps_the_log(
    folders: Folders, database: str
) -> None:
    """SQLite would delete the log beside an empty file, even to read."""
    killed = folders.killed
    killed.database.unlink()
    if database == "empty":
        killed.database.touch()
    before = files_of(killed.path)
    target = folders.elsewhere / "copy.db"

    with pytest.raises(CannotOpenStore, match=r"put tasks\.db back beside tasks\.db-wal"):
        export_store(killed, io.BytesIO().write, lambda *_: None, now=NOW, salvage=True)
    with pytest.raises(CannotOpenStore, match=r"put tasks\.db back beside tasks\.db-wal"):
        back_up_store(killed, target, lambda *_: None, replace=False)
    if database == "empty":
        report = verify_store(killed, lambda *_: None)
        assert "its WAL is there and may hold" in report.problems[0].what
        assert "put tasks.db back beside tasks.db-wal" in (report.advice or "")
    else:
        with pytest.raises(CannotOpenStore, match=r"put tasks\.db back beside tasks\.db-wal"):
            verify_store(killed, lambda *_: None)

    assert files_of(killed.path) == before


def journal_of_a_new_database(path: Path) -> bytes:
    """Return the journal that a kill leaves while a database is created."""
    with closing(raw(path)) as connection:
        connection.executescript("PRAGMA cache_size = 1; BEGIN; CREATE TABLE t (a);")
        connection.executemany("INSERT INTO t VALUES (zeroblob(?))", [(1000,)] * 100)
        return journal_of(path).read_bytes()


async def test_journal_of_an_interrupted_creation_does_not_empty_another_database(
    folders: Folders,
) -> None:
    path = await new_database(folders.elsewhere / "tasks.db", "a")
    journal_of(path).write_bytes(journal_of_a_new_database(folders.elsewhere / "new.db"))
    before = files_of(folders.elsewhere)

    with pytest.raises(CannotOpenStore, match=r"tasks\.db-journal belongs to another database"):
        await inline_store(path).open()

    assert files_of(folders.elsewhere) == before


async def test_database_whose_creation_was_interrupted_is_created(folders: Folders) -> None:
    path = folders.elsewhere / "tasks.db"
    path.touch()
    journal_of(path).write_bytes(journal_of_a_new_database(folders.elsewhere / "new.db"))

    assert await ids_in(path) == []


NO_WALS = {
    "random": seeded().randbytes(50_000),
    "text": b"a note, instead of the log\n",
    "short": b"\x37\x7f\x07",
    "database": b"SQLite format 3\x00" + bytes(4080),
}


@pytest.mark.parametrize("has_index", [False, True])
@pytest.mark.parametrize("content", NO_WALS.values(), ids=NO_WALS)
async def test_file_that_is_no_log_is_refused_and_nothing_is_changed(
    folders: Folders, content: bytes, has_index: bool
) -> None:
    killed = folders.killed
    wal_of(killed.database).write_bytes(content)
    if has_index:
        wal_index_of(killed.database).write_bytes(content)
    before = files_of(killed.path)

    with pytest.raises(CannotOpenStore, match=r"tasks\.db-wal is not an SQLite WAL"):
        await inline_store(killed.database).open()
    with pytest.raises(CannotOpenStore, match=r"move tasks\.db-wal to another folder"):
        export_store(killed, io.BytesIO().write, lambda *_: None, now=NOW, salvage=True)
    report = verify_store(killed, lambda *_: None)

    assert ["is not an SQLite WAL" in found.what for found in report.problems] == [True]
    assert "only tasks.db was read" in report.notes[0]
    assert files_of(killed.path) == before


@pytest.mark.parametrize("content", [b"\x37\x7f\x06", bytes(50_000)], ids=["part", "zeros"])
async def test_log_whose_first_write_was_cut_off_counts_as_empty(
    folders: Folders, content: bytes
) -> None:
    killed = folders.killed
    wal_of(killed.database).write_bytes(content)

    assert await ids_in(killed.database) == ["early", "later"]


# Databases of version 1.0.0 have no commit numbers, so their logs are accepted.


def killed_version_1_0_0(folder: Path) -> Path:
    """Return a database of version 1.0.0 whose last commits are only in its log."""
    folder.mkdir()
    path = folder / "before.db"
    with closing(raw(path)) as connection:
        make_version_1_0_0(connection)
        connection.execute("INSERT INTO server VALUES ('paused', '1')")
        killed = snapshot(path, [])
    return put_pair(folder / "data", killed.database, killed.log)


async def test_database_of_version_1_0_0_is_upgraded_with_its_log(tmp_path: Path) -> None:
    path = killed_version_1_0_0(tmp_path / "old")

    async with opened(path) as store:
        await store.add(make_task("a"))
        assert await store.paused() is True
        killed = snapshot(path, ["a"])

    again = put_pair(tmp_path / "again", killed.database, killed.log)
    assert await ids_in(again) == ["a"]
    with closing(raw(again)) as connection:
        assert is_numbered(read_version(connection))


async def test_numbering_starts_with_the_next_start_if_another_process_reads(
    tmp_path: Path,
) -> None:
    path = killed_version_1_0_0(tmp_path / "old")
    with closing(raw(path)) as reader:
        reader.execute("BEGIN").execute("SELECT count(*) FROM tasks").fetchone()
        async with opened(path) as store:
            await store.add(make_task("a"))
            killed = snapshot(path, ["a"])
        assert not is_numbered(read_version(reader))

    again = put_pair(tmp_path / "again", killed.database, killed.log)
    assert await ids_in(again) == ["a"]
    with closing(raw(again)) as connection:
        assert is_numbered(read_version(connection))


async def test_backup_of_version_1_0_0_can_still_be_opened_by_it(tmp_path: Path) -> None:
    path = killed_version_1_0_0(tmp_path / "old")
    folder, target = DataFolder(path.parent), tmp_path / "backup.db"

    back_up_store(folder, target, lambda *_: None, replace=False)

    with closing(raw(target)) as connection:
        assert read_version(connection) == 1
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def killed_while_opening(path: Path) -> list[dict[str, bytes]]:
    """Return the files after a kill before each statement of opening a database."""
    states = []
    with closing(connect(path)) as connection:
        connection.set_trace_callback(lambda _: states.append(files_of(path.parent)))
        prepare(connection, must_exist=False)
    return states


async def open_each(folder: Path, states: list[dict[str, bytes]]) -> list[bool]:
    """Open a database from each of many states; return whether the server was paused in it."""
    paused = []
    for state in states:
        async with opened(put_files(folder, state)) as store:
            paused.append(await store.paused())
    return paused


async def test_new_database_survives_a_kill_at_any_step_of_its_creation(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    states = killed_while_opening(tmp_path / "new" / "tasks.db")

    assert not any(await open_each(tmp_path / "again", states))


async def test_upgrade_survives_a_kill_at_any_step(tmp_path: Path) -> None:
    states = killed_while_opening(killed_version_1_0_0(tmp_path / "old"))

    assert all(await open_each(tmp_path / "again", states))
