"""Backups and imports that are put beside the log of another database."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.acceptance.disks import content_of
from tests.acceptance.harness import Server, ended, serving


def push(server: Server, count: int) -> set[str]:
    tasks = [{"url": "http://127.0.0.1:9/", "text": "x" * 700}] * count
    answer = server.request("POST", "/v1/tasks/batch", json.dumps({"tasks": tasks}).encode())
    return set(answer.json["ids"])


def waiting_in(server: Server) -> set[str]:
    """Return the ids of the waiting tasks, which are 500 at the most."""
    return {each["id"] for each in server.request("GET", "/v1/tasks?limit=500").json["tasks"]}


def test_restored_backup_beside_the_old_log_is_refused_by_every_command(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "backup.db"
    with serving(data, "--start-paused") as server:
        push(server, 3)
        assert ended("backup", file, "--data-dir", data).returncode == 0
        known = push(server, 2)
        server.kill()
    (data / "tasks.db").rename(tmp_path / "away")
    shutil.copy(file, data / "tasks.db")
    before = content_of(data)

    with (
        pytest.raises(AssertionError, match=r"tasks\.db-wal belongs to another database"),
        serving(data),
    ):
        pass
    verified = ended("verify", data)
    exported = ended("export", tmp_path / "tasks.ndjson", "--data-dir", data)

    assert content_of(data).items() - before.items() <= {("lock", content_of(data)["lock"])}
    assert verified.returncode == 1
    assert "tasks.db-wal belongs to another database" in verified.stdout
    assert "3 tasks can be read" in verified.stdout
    assert "move tasks.db-wal to another folder and keep it" in verified.stdout
    assert exported.returncode == 1
    (tmp_path / "away").rename(data / "tasks.db")
    with serving(data, "--start-paused") as server:
        assert known < waiting_in(server)


def test_import_beside_the_old_log_is_refused(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "tasks.ndjson"
    with serving(data, "--start-paused") as server:
        push(server, 3)
        assert ended("export", file, "--data-dir", data).returncode == 0
        known = push(server, 2)
        server.kill()
    (data / "tasks.db").rename(tmp_path / "away")

    imported = ended("import", file, "--data-dir", data)
    verified = ended("verify", data)

    assert imported.returncode == 1
    assert "tasks.db-wal beside it is the log of another database" in imported.stderr
    assert verified.returncode == 2
    assert "put tasks.db back beside tasks.db-wal" in verified.stderr
    (tmp_path / "away").rename(data / "tasks.db")
    with serving(data, "--start-paused") as server:
        assert known < waiting_in(server)
