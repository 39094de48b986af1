"""Damaged databases are refused at the start; damage found later stops all writing."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from poussetaches.core.errors import CannotOpenStore, StoreUnavailable
from poussetaches.core.filter import TaskFilter
from poussetaches.core.queue import Queue
from poussetaches.store.sqlite import SqliteStore, damage_check
from tests.factories import NOW, make_schedule, make_task
from tests.store.driving import found_by, put_schedule
from tests.store.sqlite_files import content_of, opened, overwrite, raw

PAGE = 4096
TASKS = 200
BODY = b"x" * 500
REPAIR = "copy its folder, see what can still be read with `poussetaches verify`"


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Return a database of tasks, a queue and a schedule, which is not open."""
    path = tmp_path / "data" / "tasks.db"
    path.parent.mkdir()
    async with opened(path) as store:
        await store.restore([(make_task(f"{n:03}", body=BODY), []) for n in range(TASKS)])
        await store.edit_queue("mail", lambda _: Queue(name="mail", paused=True))
        await put_schedule(store, make_schedule("s"))
    return path


@pytest.fixture
def is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat any database as too large for a complete check at the start."""
    monkeypatch.setattr(damage_check, "SMALL", 0)


def root_of(path: Path, name: str) -> int:
    with closing(raw(path)) as connection:
        row = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,))
        return int(row.fetchone()[0])


def page_of_tasks(path: Path) -> int:
    """Return a page of tasks that has neither the first nor the last task."""
    content = content_of(path) or b""
    return content.index(BODY, len(content) // 2) // PAGE + 1


def zero_page(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(bytes(PAGE))


def files_in(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def change_index_entry(path: Path) -> None:
    """Change an entry of an index so that its table has no such row."""
    content = bytearray(content_of(path) or b"")
    start = (root_of(path, "schedules_due") - 1) * PAGE
    place = content.index(b"s", start + PAGE - 20, start + PAGE)
    content[place : place + 1] = b"t"
    overwrite(path, bytes(content))


async def refusal(path: Path) -> str:
    with pytest.raises(CannotOpenStore) as caught:
        async with opened(path):
            pass
    return str(caught.value)


@pytest.mark.parametrize("name", ["queues", "schedules", "tasks", "tasks_due"])
@pytest.mark.parametrize("size", ["small", "large"])
async def test_damaged_root_page_is_refused_at_the_start(
    path: Path, name: str, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if size == "large":
        monkeypatch.setattr(damage_check, "SMALL", 0)
    zero_page(path, root_of(path, name))
    before = files_in(path.parent)

    message = await refusal(path)

    assert f"{path} is damaged (" in message
    assert REPAIR in message
    assert files_in(path.parent) == before


async def test_small_database_with_a_damaged_page_of_tasks_is_refused(path: Path) -> None:
    zero_page(path, page_of_tasks(path))
    before = files_in(path.parent)

    assert "is damaged" in await refusal(path)
    assert files_in(path.parent) == before


async def test_small_database_whose_index_does_not_match_its_table_is_refused(
    path: Path,
) -> None:
    change_index_entry(path)
    before = files_in(path.parent)

    assert "schedules_due" in await refusal(path)
    assert files_in(path.parent) == before


@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_damaged_database_with_a_log_is_refused_and_no_file_is_changed(
    path: Path, tmp_path: Path, index: str
) -> None:
    killed = tmp_path / "killed"
    async with opened(path) as store:
        await store.add(make_task("in the log"))
        shutil.copytree(path.parent, killed)
    zero_page(killed / "tasks.db", page_of_tasks(killed / "tasks.db"))
    if index == "lost":
        (killed / "tasks.db-shm").unlink()
    before = files_in(killed)

    assert "is damaged" in await refusal(killed / "tasks.db")
    assert files_in(killed) == before
    assert "tasks.db-wal" in before


async def test_damage_that_the_log_repairs_is_accepted(path: Path, tmp_path: Path) -> None:
    """An interrupted checkpoint may leave torn pages; the log still has them."""
    killed = tmp_path / "killed"
    async with opened(path) as store:
        await store.edit_queue("mail", lambda _: Queue(name="mail", paused=False))
        shutil.copytree(path.parent, killed)
    zero_page(killed / "tasks.db", root_of(path, "queues"))

    async with opened(killed / "tasks.db") as store:
        assert (await store.queues())["mail"].paused is False


@pytest.mark.usefixtures("is_large")
async def test_damage_found_later_stops_all_writing_with_advice(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zero_page(path, page_of_tasks(path))
    async with opened(path) as store:
        before = files_in(path.parent)
        with pytest.raises(StoreUnavailable, match="stop the server, copy its folder"):
            await read_all(store)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="is damaged"):
                await store.recover()
        results = [await refused(store), await refused_read(store)]
        trouble = store.trouble
    after = files_in(path.parent)

    assert trouble is not None
    assert (trouble.full, trouble.damaged) == (False, True)
    assert REPAIR in trouble.reason
    assert results == [trouble.reason] * 2
    assert after["tasks.db"] == before["tasks.db"]
    assert after["tasks.db-wal"] == before["tasks.db-wal"]
    # Checking a large database takes long, so it is not repeated every second.
    logged = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert logged == ["store cannot be written", "database is damaged"]


@pytest.mark.usefixtures("is_large")
async def test_immediate_stop_does_not_change_a_damaged_file(path: Path) -> None:
    zero_page(path, page_of_tasks(path))
    before = content_of(path)
    async with opened(path) as store:
        await store.edit_queue("mail", lambda _: Queue(name="mail", paused=False))
        with pytest.raises(StoreUnavailable):
            await read_all(store)

    assert content_of(path) == before


@pytest.mark.usefixtures("is_large")
async def test_store_continues_once_the_damaged_page_is_restored(path: Path) -> None:
    whole = content_of(path) or b""
    page = page_of_tasks(path)
    zero_page(path, page)
    async with opened(path) as store:
        with pytest.raises(StoreUnavailable):
            await read_all(store)
        with pytest.raises(StoreUnavailable):
            await store.recover()
        with path.open("r+b") as file:
            file.seek((page - 1) * PAGE)
            file.write(whole[(page - 1) * PAGE : page * PAGE])

        await store.recover()

        assert len(await read_all(store)) == TASKS
        await store.add(make_task("new"))


@pytest.mark.usefixtures("is_large")
async def test_index_that_does_not_match_its_table_stops_all_writing_once_it_is_found(
    path: Path,
) -> None:
    """Otherwise, the same write would fail every second."""
    change_index_entry(path)
    async with opened(path) as store:
        with pytest.raises(StoreUnavailable, match="is damaged"):
            await store.edit_schedule("s", lambda _: None, now=NOW)

        with pytest.raises(StoreUnavailable, match="schedules_due"):
            await store.recover()


async def read_all(store: SqliteStore) -> list[str]:
    return await found_by(store, TaskFilter())


async def refused(store: SqliteStore) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await store.add(make_task("new"))
    return str(caught.value)


async def refused_read(store: SqliteStore) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await read_all(store)
    return str(caught.value)


def test_errors_of_damage_are_distinguished() -> None:
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CORRUPT | 3 << 8, sqlite3.SQLITE_FULL)
    errors = [sqlite3.OperationalError() for _ in codes]
    for error, code in zip(errors, codes, strict=True):
        error.sqlite_errorcode = code

    assert [damage_check.is_damage(error) for error in errors] == [True, True, False]
