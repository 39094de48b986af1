"""Backups of a running server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.acceptance.harness import ended, receiving, serving, wait_until
from tests.acceptance.pushing import Pusher


def test_backup_of_a_running_server_has_all_tasks_acknowledged_before(tmp_path: Path) -> None:
    data, restored = tmp_path / "data", tmp_path / "restored"
    file = tmp_path / "backup.db"
    with receiving() as receiver, serving(data, "--start-paused") as server:
        pushers = [Pusher(server, f"{receiver.url}/task", f"p{number}") for number in range(2)]
        for pusher in pushers:
            pusher.start()
        wait_until(lambda: len(pushers[0].acknowledged), lambda count: count > 50, "pushes")
        before = {name for pusher in pushers for name in pusher.acknowledged}

        result = ended("backup", file, "--data-dir", data)

        for pusher in pushers:
            pusher.stop()
        assert (result.returncode, result.stderr) == (0, "")
        restored.mkdir()
        shutil.copy(file, restored / "tasks.db")
        assert "no problems found" in ended("verify", restored).stdout
        with serving(restored) as copy:
            copy.request("POST", "/resume")
            wait_until(lambda: copy.listing("waiting"), lambda tasks: not tasks, "all to end")
        delivered = {delivery.payload.decode() for delivery in receiver.deliveries}
        assert before <= delivered
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("force", [False, True])
def test_existing_file_is_replaced_only_on_demand(tmp_path: Path, force: bool) -> None:
    data, file = tmp_path / "data", tmp_path / "backup.db"
    with serving(data) as server:
        server.stop()
    file.write_text("another")

    result = ended("backup", file, "--data-dir", data, *["--force"] * force)

    assert result.returncode == (0 if force else 1)
    assert (file.read_bytes() == b"another") != force


def test_damaged_database_is_not_backed_up(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "backup.db"
    with serving(data) as server:
        server.stop()
    os.truncate(data / "tasks.db", (data / "tasks.db").stat().st_size // 2)

    result = ended("backup", file, "--data-dir", data)

    assert result.returncode == 1
    assert "poussetaches verify" in result.stderr
    assert list(tmp_path.glob("*backup*")) == []


@pytest.mark.parametrize("command", ["backup", "export"])
def test_no_file_of_the_data_folder_is_replaced(tmp_path: Path, command: str) -> None:
    data = tmp_path / "data"
    with serving(data, "--start-paused") as server:
        ids = {server.push("http://127.0.0.1:9/")}
        server.kill()
    wal = data / "tasks.db-wal"
    before = wal.read_bytes()

    result = ended(command, wal, "--data-dir", data, "--force")

    assert result.returncode == 1
    assert f"{wal} is a file of the data folder {data}; choose another file" in result.stderr
    assert wal.read_bytes() == before
    with serving(data) as server:
        assert server.ids("waiting") == ids
