"""Unusable files at the start: the error names the file, the cause and what to do."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance import failing_files
from tests.acceptance.disks import content_of
from tests.acceptance.harness import PATIENCE, clean_environment, free_port, serving

FILES = ("lock", "tasks.db", "tasks.db-wal")
PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a killed server, which has every file of a data folder."""
    data = tmp_path_factory.mktemp("killed") / "data"
    with serving(data, "--start-paused") as server:
        server.push("http://127.0.0.1:9/")
        server.kill()
    return data


@pytest.fixture
def data(killed: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder."""
    shutil.copytree(killed, tmp_path / "data")
    return tmp_path / "data"


def refusal(data: Path, *program: object, before: Callable[[], None] = lambda: None) -> str:
    """Start a server that must refuse to start; return its one line of output."""
    words = (*(program or ("-m", "poussetaches")), "serve", "--data-dir", data)
    ended = subprocess.run(
        [sys.executable, *map(str, words), "--port", str(free_port())],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        preexec_fn=before,
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
    assert ended.stderr.startswith("poussetaches: ")
    return ended.stderr


def without_rights_of_root() -> None:
    """Apply file permissions to this process even if it runs as root."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def with_files_of_16_kib() -> None:
    """Make writes fail that grow a file beyond 16 KiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, resource.RLIM_INFINITY))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE], ids=os.strerror)
@pytest.mark.parametrize("name", FILES)
def test_file_that_cannot_be_opened_is_named_with_the_reason(
    data: Path, name: str, number: int
) -> None:
    said = refusal(data, failing_files.__file__, "open", number, data / name)

    assert os.strerror(number) in said
    assert str(data if name == "lock" else data / name) in said


@pytest.mark.parametrize("name", ["tasks.db", "tasks.db-wal"])
def test_file_whose_status_cannot_be_read_is_named_with_the_reason(data: Path, name: str) -> None:
    said = refusal(data, failing_files.__file__, "stat", errno.EIO, data / name)

    assert f"{data / name} cannot be opened: {os.strerror(errno.EIO)}" in said


@pytest.mark.parametrize("name", [*FILES, "tasks.db-shm", "."])
def test_file_of_another_user_is_named(data: Path, name: str) -> None:
    (data / name).chmod(0)
    try:
        said = refusal(data, before=without_rights_of_root)
    finally:
        (data / name).chmod(0o700)

    assert "Permission denied; give it to the user that runs poussetaches" in said
    assert str(data if name in ("lock", ".") else data / name) in said


@pytest.mark.parametrize("name", [*FILES, "tasks.db-shm"])
def test_folder_at_the_path_of_a_file_is_named(data: Path, name: str) -> None:
    (data / name).unlink()
    (data / name).mkdir()

    said = refusal(data)

    assert str(data if name == "lock" else data / name) in said


def test_named_pipe_at_the_path_of_the_database_is_refused(data: Path) -> None:
    """Opening it would block until another process writes to it."""
    (data / "tasks.db").unlink()
    os.mkfifo(data / "tasks.db")

    assert "it is not a regular file" in refusal(data)


def test_index_that_cannot_be_written_is_not_reported_as_a_full_disk(data: Path) -> None:
    (data / "tasks.db-shm").unlink()
    before = content_of(data)

    said = refusal(data, before=with_files_of_16_kib)

    after = content_of(data)
    assert "full" not in said
    assert "disk I/O error" in said
    assert [name for name in before if after[name] != before[name]] == ["lock"]


def test_reserve_that_cannot_be_allocated_is_not_reported_as_a_full_disk(data: Path) -> None:
    (data / "reserve").unlink()
    (data / "reserve").mkdir()

    with serving(data, "--start-paused") as server:
        ready = server.request("GET", "/readyz")

    assert ready.status == 200
    assert server.logged("warning .*reserve cannot be claimed .*Is a directory")
