"""``poussetaches verify`` as a command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.acceptance.harness import ended, serving


def test_folder_is_verified_beside_its_server_and_after_its_crash(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--start-paused") as server:
        server.push("http://127.0.0.1:9/")
        beside = ended("verify", tmp_path / "data")
        server.kill()
        after = ended("verify", tmp_path / "data", "--json")

    assert (beside.returncode, beside.stderr) == (0, "")
    assert "1 task can be read: 1 waiting" in beside.stdout
    assert "a server is using it" in beside.stdout
    assert beside.stdout.endswith("no problems found\n")
    report = json.loads(after.stdout)
    assert (report["fine"], report["facts"]["tasks"]) == (True, {"waiting": 1})
    assert "did not stop in order" in report["notes"][0]


def test_server_refuses_a_file_truncated_after_a_kill_and_does_not_change_it(
    tmp_path: Path,
) -> None:
    database = tmp_path / "data" / "tasks.db"
    with serving(tmp_path / "data", "--start-paused") as server:
        for _ in range(20):
            server.push("http://127.0.0.1:9/", b"x" * 10_000)
        server.stop()
        server.start()
        server.push("http://127.0.0.1:9/")
        server.kill()
    os.truncate(database, database.stat().st_size // 2)
    before = database.read_bytes()

    with pytest.raises(AssertionError, match="poussetaches verify"), serving(tmp_path / "data"):
        pass

    found = ended("verify", tmp_path / "data")
    assert found.returncode == 1
    assert "the file was cut short" in found.stdout
    assert "What to do" in found.stdout
    assert database.read_bytes() == before


def test_unreadable_folder_exits_2(tmp_path: Path) -> None:
    result = ended("verify", tmp_path)

    assert result.returncode == 2
    assert result.stderr.startswith("poussetaches: ")


def test_crash_test_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = ended("verify", tmp_path, "--crash-test")

    assert (result.returncode, result.stdout) == (2, "")
    assert "is not empty" in result.stderr


def test_crash_test_at_the_path_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = ended("verify", tmp_path / "file", "--crash-test")

    assert (result.returncode, result.stderr) == (
        2,
        f"poussetaches: cannot use {tmp_path}/file: Not a directory; give an empty folder for the "
        "crash test\n",
    )


def test_crash_test_whose_files_cannot_be_created_is_refused() -> None:
    result = ended("verify", "/proc/data", "--crash-test", "--kills", 1, "--seconds", 1)

    assert result.returncode == 1
    assert result.stderr.startswith(
        "poussetaches: the crash test cannot use /proc/data: [Errno 2] No such file or "
        "directory: '/proc/data.log'"
    )


def test_crash_test_reports_all_tasks(tmp_path: Path) -> None:
    result = ended("verify", tmp_path / "data", "--crash-test", "--kills", 2, "--seconds", 1)

    assert result.returncode == 0, result
    assert "2 kills\n" in result.stdout
    assert "\n0 tasks lost\n0 tasks delivered early\n" in result.stdout


def test_data_folder_is_found_as_by_the_other_commands(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        server.stop()

    by_option = ended("verify", "--data-dir", data)
    by_both = ended("verify", data, "--data-dir", data)

    assert (by_option.returncode, by_option.stdout.splitlines()[-1]) == (0, "no problems found")
    assert by_both.returncode == 2
    assert "DATA_DIR conflicts with --data-dir" in by_both.stderr


def test_file_instead_of_a_folder_is_refused_with_advice(tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    backup.touch()

    result = ended("verify", backup)

    assert result.returncode == 2
    assert f"{backup} is a file; to verify a backup, copy it to an empty folder" in result.stderr
