"""Imports, backups and stops on a disk that becomes full."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.disks import MIB, SmallDisk, content_of, mounted
from tests.acceptance.harness import Server, ended, serving

TASKS = 2000
STEP = 256 * 1024  # bytes between two disk sizes


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data folder of a stopped server with many tasks."""
    folder = tmp_path_factory.mktemp("source") / "data"
    with serving(folder, "--start-paused") as server:
        server.push_many(TASKS, size=700)
        assert server.stop() == 0
    return folder


def tasks_in(folder: Path) -> int:
    """Verify the store of a folder; return how many tasks it has."""
    result = ended("verify", folder, "--json")
    report = json.loads(result.stdout)
    assert report["fine"], report
    count: int = sum(report["facts"]["tasks"].values())
    return count


def test_import_on_a_disk_of_any_size_is_complete_or_refused(source: Path, tmp_path: Path) -> None:
    file = tmp_path / "tasks.ndjson"
    assert ended("export", file, "--data-dir", source).returncode == 0
    size = (source / "tasks.db").stat().st_size
    statuses, errors = [], ""
    # From no space for the log to space for the log and the database.
    for room in range(size, size + 4 * MIB, 2 * STEP):
        with mounted(tmp_path / "disk", size=room) as disk:
            result = ended("import", file, "--data-dir", disk.data_dir)

            statuses.append(result.returncode)
            if result.returncode == 0:
                assert tasks_in(disk.data_dir) == TASKS
            else:
                assert "full" in result.stderr
                errors += result.stderr
                assert "tasks.db" not in content_of(disk.data_dir)
    assert (statuses[0], statuses[-1]) == (1, 0)
    assert "the imported database cannot be completed" in errors


def test_backup_on_a_disk_of_any_size_is_complete_or_refused(source: Path, tmp_path: Path) -> None:
    size = (source / "tasks.db").stat().st_size
    statuses = []
    for room in range(size - STEP, size + STEP, STEP // 4):
        with mounted(tmp_path / "disk", size=room) as disk:
            disk.data_dir.mkdir()
            target = disk.data_dir / "tasks.db"
            result = ended("backup", target, "--data-dir", source)

            statuses.append(result.returncode)
            if result.returncode == 0:
                assert tasks_in(disk.data_dir) == TASKS
            else:
                assert "full" in result.stderr or "No space left" in result.stderr
                assert content_of(disk.data_dir) == {}
    assert (statuses[0], statuses[-1]) == (1, 0)


def test_log_that_cannot_be_checkpointed_at_the_stop_is_kept_and_reported(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk:
        server = Server(disk.data_dir, "--start-paused")
        server.log = tmp_path / "log"
        server.start()
        try:
            known = server.push_many(500, size=700)
            fill(disk)

            status = server.stop()

            assert status == 0
            assert server.logged("the database's WAL could not be emptied")
            disk.make_room()
            server.start()
            assert server.task_ids() == known
        finally:
            server.close()


def fill(disk: SmallDisk) -> None:
    """Leave no free space and no reserve file."""
    (disk.data_dir / "reserve").unlink()
    disk.fill()
