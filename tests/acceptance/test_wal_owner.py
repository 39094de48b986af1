"""Backups and imports that are put beside the log of another database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.acceptance.disks import content_of
from tests.acceptance.harness import ended, serving


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def lose_database(data: Path, copy: str, file: Path) -> set[str]:
    """Copy a store, push more, kill the server and move its database away; return the last ids."""
    with serving(data, "--start-paused") as server:
        server.push_many(3, size=700)
        assert ended(copy, file, "--data-dir", data).returncode == 0
        last = server.push_many(2, size=700)
        server.kill()
    (data / "tasks.db").rename(data.parent / "away")
    return last


def put_database_back(data: Path) -> set[str]:
    """Put the database back beside its log; return the ids of the tasks that a server finds."""
    (data.parent / "away").rename(data / "tasks.db")
    with serving(data, "--start-paused") as server:
        return server.task_ids()


def test_restored_backup_beside_the_old_log_is_refused_by_every_command(data: Path) -> None:
    file = data.parent / "backup.db"
    last = lose_database(data, "backup", file)
    shutil.copy(file, data / "tasks.db")
    before = content_of(data)

    with (
        pytest.raises(AssertionError, match=r"tasks\.db-wal belongs to another database"),
        serving(data),
    ):
        pass
    verified = ended("verify", data)
    exported = ended("export", data.parent / "tasks.ndjson", "--data-dir", data)

    assert content_of(data).items() - before.items() <= {("lock", content_of(data)["lock"])}
    assert verified.returncode == 1
    assert "tasks.db-wal belongs to another database" in verified.stdout
    assert "3 tasks can be read" in verified.stdout
    assert "move tasks.db-wal to another folder and keep it" in verified.stdout
    assert exported.returncode == 1
    assert last < put_database_back(data)


def test_import_beside_the_old_log_is_refused(data: Path) -> None:
    file = data.parent / "tasks.ndjson"
    last = lose_database(data, "export", file)

    imported = ended("import", file, "--data-dir", data)
    verified = ended("verify", data)

    assert imported.returncode == 1
    assert "tasks.db-wal beside it belongs to another database" in imported.stderr
    assert verified.returncode == 2
    assert "put tasks.db back beside tasks.db-wal" in verified.stderr
    assert last < put_database_back(data)
