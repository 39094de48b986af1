from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poussetaches.core.errors import CannotWriteFile
from poussetaches.store.atomic_file import atomic_file

# Writes half of a file, prints a line, and waits to be killed.
WRITER = """
import sys
from pathlib import Path
from poussetaches.store.atomic_file import atomic_file

with atomic_file(Path(sys.argv[1]), replace=True) as beside:
    beside.write_bytes(b"half")
    print(beside, flush=True)
    sys.stdin.read()
"""


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that writes a file, and kill it at the end."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def write(path: Path, content: bytes, *, replace: bool = False) -> None:
    with atomic_file(path, replace=replace) as beside:
        beside.write_bytes(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backup.db"


def test_file_appears_complete_and_only_for_its_owner(path: Path) -> None:
    with atomic_file(path, replace=False) as beside:
        beside.write_bytes(b"all")
        assert not path.exists()

    assert path.read_bytes() == b"all"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_incomplete_file_is_deleted(path: Path) -> None:
    with pytest.raises(CannotWriteFile, match="No space left"), atomic_file(path, replace=False):
        raise OSError(28, "No space left on device")

    assert list(path.parent.iterdir()) == []


def test_file_in_a_folder_that_cannot_be_synced_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems cannot sync folders."""
    fsync = os.fsync

    def fsync_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync_files)

    write(path, b"all")

    assert path.read_bytes() == b"all"


def test_files_of_a_killed_writer_are_deleted_by_the_next(path: Path) -> None:
    with writing(path):
        pass
    assert len(list(path.parent.iterdir())) == 1

    write(path, b"all")

    assert list(path.parent.iterdir()) == [path]


def test_repeated_process_id_stops_no_writer(path: Path) -> None:
    """In a container, a backup may have the same process id each time."""
    left = path.with_name(f".{path.name}.{os.getpid()}.part")
    left.mkdir()

    write(path, b"all")

    assert path.read_bytes() == b"all"
    assert not left.exists()


def test_file_that_another_process_is_writing_is_not_deleted(path: Path) -> None:
    with writing(path) as process:
        write(path, b"ours")
        _, _ = process.communicate("")  # lets it end

        assert process.returncode == 0
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


def test_file_created_meanwhile_is_not_replaced(path: Path) -> None:
    with (
        pytest.raises(CannotWriteFile, match="already exists"),
        atomic_file(path, replace=False) as beside,
    ):
        beside.write_bytes(b"all")
        path.write_bytes(b"another")

    assert path.read_bytes() == b"another"
