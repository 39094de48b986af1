"""Starting on a damaged database, and upgrading one on a disk without enough space."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from poussetaches.store.sqlite.damage_check import SMALL
from tests.acceptance.disks import content_of, mounted
from tests.acceptance.harness import Answer, Server, ended, wait_until
from tests.store.sqlite_files import raw

PAGE = 4096
TASKS = 2000
ADD_TASK = """
INSERT INTO tasks (
    seq, id, lane, queue, state, priority, run_at, due_at, created_at, round,
    attempt_count, attempt_total, envelope, method, url, body
) VALUES (
    ?, ?, 1, 'default', 'waiting', 0, 1, 1, 1, 1, 0, 0, 0, 'POST', 'http://127.0.0.1:9/', ?
)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "disk" / "data", "--start-paused")
    server.log = tmp_path / "log"
    server.data_dir.parent.mkdir()
    yield server
    server.close()


def data_in(folder: Path) -> dict[str, bytes]:
    """Return the files of a data folder, except the record of its last server."""
    files = content_of(folder)
    return {name: content for name, content in files.items() if name not in ("lock", "address")}


def old_database(path: Path) -> None:
    """Make a database of version 1.0.0 with many tasks."""
    path.parent.mkdir()
    migrations = resources.files("poussetaches.store").joinpath("sql", "migrations", "sqlite")
    schema = migrations.joinpath("0001_initial.sql").read_text()
    with closing(raw(path)) as database:
        database.executescript(
            f"PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; {schema}"
        )
        database.execute("PRAGMA application_id = 0x706F7573")
        database.execute("PRAGMA user_version = 1")
        database.execute("BEGIN")
        database.execute("INSERT INTO queues VALUES ('default', ?, 0, 0, 0)", (TASKS,))
        database.execute("INSERT INTO lanes VALUES (1, 'default', 'http://127.0.0.1:9', 1)")
        database.executemany(ADD_TASK, [(n, f"{n:032x}", bytes(1000)) for n in range(TASKS)])
        database.execute("COMMIT")


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_truncated_database_is_refused_and_no_file_is_changed(server: Server, end: str) -> None:
    server.start()
    server.push_many(100, size=5000)
    assert server.stop() == 0
    if end == "killed":
        server.start()
        server.push_many(2, size=5000)
        server.kill()
    database = server.data_dir / "tasks.db"
    os.truncate(database, database.stat().st_size // 2)
    before = data_in(server.data_dir)

    with pytest.raises(AssertionError, match=r"is damaged.*poussetaches verify"):
        server.start()

    assert data_in(server.data_dir) == before
    assert "tasks can be read" in ended("verify", server.data_dir).stdout
    assert data_in(server.data_dir).keys() == before.keys()


def zero_page_of_tasks(database: Path) -> None:
    """Overwrite a page in the middle of the tasks with zeros."""
    content = database.read_bytes()
    page = content.index(b"x" * 500, len(content) // 2) // PAGE
    with database.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(bytes(PAGE))


def list_until_refused(server: Server) -> Answer:
    """List all tasks, page by page; return the first answer that is an error."""
    cursor = ""
    while (answer := server.request("GET", f"/v1/tasks?limit=1000{cursor}")).status == 200:
        cursor = f"&cursor={answer.json['next_cursor']}"
    return answer


def test_small_database_with_a_damaged_page_is_refused_and_not_changed(server: Server) -> None:
    server.start()
    server.push_many(1000, size=500)
    assert server.stop() == 0
    zero_page_of_tasks(server.data_dir / "tasks.db")
    before = data_in(server.data_dir)

    with pytest.raises(AssertionError, match=r"is damaged.*poussetaches verify"):
        server.start()

    assert data_in(server.data_dir) == before
    assert "SQLite finds damage" in ended("verify", server.data_dir).stdout


def test_damaged_page_of_a_large_database_stops_all_writing_once_it_is_read(
    server: Server,
) -> None:
    database = server.data_dir / "tasks.db"
    server.start()
    for _ in range(2):
        server.push_many(6000, size=3000)
    assert server.stop() == 0
    assert database.stat().st_size > SMALL
    zero_page_of_tasks(database)

    server.start()
    before = database.read_bytes()
    listed = list_until_refused(server)
    confirmed = wait_until(
        lambda: server.request("GET", "/readyz"),
        lambda answer: "it was not changed" in str(answer.json),
        "the damage to be confirmed",
    )
    pushed = server.request("POST", "/v1/tasks", b'{"url": "http://127.0.0.1:9/"}')
    alive = server.request("GET", "/healthz").status
    status = server.stop()

    assert [each.status for each in (listed, confirmed, pushed)] == [503] * 3
    assert "stop the server, copy its folder" in listed.json["detail"]
    assert "poussetaches verify" in pushed.json["detail"]
    assert (alive, status) == (200, 0)
    assert database.read_bytes() == before


def test_database_that_was_moved_without_its_log_can_be_put_back(
    server: Server, tmp_path: Path
) -> None:
    """The log has the latest acknowledged tasks; a new database would have deleted it."""
    server.start()
    known = server.push_many(3, size=5000)
    server.kill()
    (server.data_dir / "tasks.db").rename(tmp_path / "away")

    with pytest.raises(AssertionError, match=r"put tasks\.db back beside tasks\.db-wal"):
        server.start()

    (tmp_path / "away").rename(server.data_dir / "tasks.db")
    server.start()
    tasks = server.request("GET", "/v1/tasks").json["tasks"]
    assert {task["id"] for task in tasks} == known


@pytest.mark.parametrize("leaving", [0, 256 * 1024], ids=["no room", "room to begin"])
def test_upgrade_on_a_full_disk_loses_nothing_and_is_completed_once_there_is_space(
    server: Server, tmp_path: Path, leaving: int
) -> None:
    old_database(tmp_path / "old" / "tasks.db")
    with mounted(tmp_path / "disk") as disk:
        shutil.copytree(tmp_path / "old", disk.data_dir)
        disk.fill(leaving=leaving)

        with pytest.raises(AssertionError, match="the disk is full"):
            server.start()

        disk.make_room()
        server.start()
        total = server.request("GET", "/v1/queues/default").json["counts"]["waiting"]
        server.close()
    assert total == TASKS
