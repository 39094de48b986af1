"""The data folder of servers in their own processes: its locks and its permissions."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.disks import content_of, read_only
from tests.acceptance.harness import (
    PATIENCE,
    Server,
    clean_environment,
    ended,
    serving,
    wait_until,
)

TASKS, SIZE = 300, 1000  # more bytes than a pipe holds


def end(server: Server, how: str) -> None:
    if how == "stopped":
        assert server.stop() == 0
    else:
        server.kill()


def exported_ids(lines: bytes) -> set[str]:
    records = [json.loads(line) for line in lines.splitlines()]
    return {record["task"]["id"] for record in records if record["type"] == "task"}


@contextmanager
def command(*words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with pipes for its input and output."""
    with subprocess.Popen(
        [sys.executable, "-m", "poussetaches", *map(str, words)],
        env=clean_environment(),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def slow_export(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run an export, and read only the first byte of its output."""
    with command("export", "--data-dir", data_dir) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"{"  # it has begun to read the store
        yield process


def test_first_line_of_the_log_names_the_folder_and_whether_it_is_new(tmp_path: Path) -> None:
    server = Server(Path(os.path.relpath(tmp_path / "data")))
    server.log = tmp_path / "log"
    for _ in range(2):
        server.start()
        server.stop()

    opened = server.logged("data folder opened")

    assert server.log.read_text().splitlines()[0] == opened[0]
    assert [re.findall(r"path=(\S+) new=(\w+)", line) for line in opened] == [
        [(str(tmp_path / "data"), "true")],
        [(str(tmp_path / "data"), "false")],
    ]


def test_files_in_an_existing_folder_are_only_for_its_user(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        with serving(data) as server:
            server.push_many(TASKS, size=SIZE)
            ended("backup", tmp_path / "backup.db", "--data-dir", data)
            ended("export", tmp_path / "tasks.ndjson", "--data-dir", data)
            files = [*data.iterdir(), tmp_path / "backup.db", tmp_path / "tasks.ndjson"]
            modes = {file.name: file.stat().st_mode & 0o777 for file in files}
        ended("import", tmp_path / "tasks.ndjson", "--data-dir", tmp_path / "copy")
        modes |= {
            f"{f.name} of an import": f.stat().st_mode & 0o777
            for f in (tmp_path / "copy").iterdir()
        }
    finally:
        os.umask(before)

    assert {"tasks.db", "tasks.db-wal", "tasks.db-shm", "reserve", "lock"} <= modes.keys()
    assert modes == dict.fromkeys(modes, 0o600)


def test_second_server_is_refused_and_the_first_one_stops_when_the_lock_file_is_deleted(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        (data / "lock").unlink()

        second = ended("serve", "--data-dir", data, "--port", 0)
        status = server.status()

        assert (second.returncode, second.stderr.count("\n")) == (1, 1)
        assert "is in use by a server" in second.stderr
        assert status == 1
        assert (
            len(server.logged(r"error .*stopping: the lock file .* was deleted or replaced")) == 1
        )
        server.start()  # as a supervisor would
        assert server.stop() == 0


def test_folder_of_an_import_is_refused_with_its_holder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with command("import", "--data-dir", data) as importing:
        wait_until((data / "lock").exists, bool, "the import to begin")

        refused = wait_until(
            lambda: ended("serve", "--data-dir", data, "--port", 0),
            lambda result: "import" in result.stderr,
            "the import to lock the folder",
        )

    assert f"is in use by an import (process {importing.pid})" in refused.stderr


@pytest.mark.parametrize("last", ["stopped", "killed"])
def test_server_starts_while_an_export_goes_into_a_slow_pipe(tmp_path: Path, last: str) -> None:
    """The export has the tasks as of its start, and does not disturb the server."""
    data = tmp_path / "data"
    server = Server(data)
    server.start()
    before = server.push_many(TASKS, size=SIZE)
    end(server, last)

    with slow_export(data) as export:
        server.start()
        later = server.push_many(TASKS, size=SIZE)
        end(server, last)
        server.start()
        later |= server.push_many(TASKS, size=SIZE)
        rest, errors = export.communicate(timeout=PATIENCE)
    now = server.task_ids()
    assert server.stop() == 0

    assert (export.returncode, errors.decode().splitlines()[-1]) == (0, f"{TASKS} tasks exported")
    assert exported_ids(b"{" + rest) == before
    assert now == before | later
    assert "no problems found" in ended("verify", data).stdout
    assert not {"tasks.db-wal", "tasks.db-shm"} & content_of(data).keys()


def test_server_does_not_start_on_a_restored_backup_while_it_is_read(tmp_path: Path) -> None:
    """It has no log, so readers and a server would block each other."""
    data, restored = tmp_path / "data", tmp_path / "restored"
    with serving(data) as server:
        before = server.push_many(TASKS, size=SIZE)
        assert ended("backup", tmp_path / "backup.db", "--data-dir", data).returncode == 0
    restored.mkdir()
    shutil.copy(tmp_path / "backup.db", restored / "tasks.db")

    with slow_export(restored) as export:
        refused = ended("serve", "--data-dir", restored, "--port", 0)
        rest, _ = export.communicate(timeout=PATIENCE)
    with serving(restored) as server:
        found = server.task_ids()

    assert "is being read by `poussetaches backup`, `export` or `verify`" in refused.stderr
    assert exported_ids(b"{" + rest) == found == before


@pytest.mark.parametrize("last", ["stopped", "killed"])
@pytest.mark.parametrize(
    "words", [("verify",), ("export", "--data-dir")], ids=lambda words: words[0]
)
def test_reading_a_folder_changes_none_of_its_files(
    tmp_path: Path, last: str, words: tuple[str, ...]
) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        server.push_many(TASKS, size=SIZE)
        end(server, last)
    before = content_of(data)

    result = ended(*words, data)

    assert result.returncode == 0
    assert content_of(data) == before


def test_export_that_was_killed_leaves_a_folder_that_can_be_used(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        before = server.push_many(TASKS, size=SIZE)
        server.stop()
    with slow_export(data) as export:
        export.send_signal(signal.SIGKILL)
        export.wait()

    result = ended("export", "--data-dir", data)
    with serving(data) as server:
        found = server.task_ids()

    assert exported_ids(result.stdout.encode()) == before
    assert found == before


def test_read_only_folder_is_exported(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        before = server.push_many(TASKS, size=SIZE)
        server.stop()

    with read_only(data):
        result = ended("export", "--data-dir", data)

    assert exported_ids(result.stdout.encode()) == before


def test_log_that_was_copied_without_its_index_is_read_beside_a_server(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy"
    copy.mkdir()
    server = Server(data)
    server.start()
    before = server.push_many(TASKS, size=SIZE)
    server.kill()
    for name in ("tasks.db", "tasks.db-wal"):
        shutil.copy(data / name, copy)

    with slow_export(copy) as export, serving(copy) as other:
        later = other.push_many(TASKS, size=SIZE)
        rest, _ = export.communicate(timeout=PATIENCE)
        now = other.task_ids()

    assert exported_ids(b"{" + rest) == before
    assert now == before | later
