from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poussetaches.core.errors import CannotOpenStore
from poussetaches.store.folder import DataFolder

# Locks the folder, says so, and goes when its input ends.
LOCKER = """
import sys
from pathlib import Path
from poussetaches.store.folder import DataFolder

DataFolder(Path(sys.argv[1])).lock()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    folder = DataFolder(tmp_path / "data")
    yield folder
    folder.unlock()


def refusal(folder: DataFolder) -> str:
    with pytest.raises(CannotOpenStore) as caught:
        folder.lock()
    return str(caught.value)


def test_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "a" / "b")

    folder.lock()

    assert (tmp_path / "a" / "b").is_dir()
    folder.unlock()


def test_folder_that_we_make_is_for_our_user_alone(folder: DataFolder) -> None:
    folder.lock()

    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_permissions_of_a_folder_that_was_there_stay_as_they_are(folder: DataFolder) -> None:
    folder.path.mkdir()
    folder.path.chmod(0o750)

    folder.lock()

    assert folder.path.stat().st_mode & 0o777 == 0o750


def test_folder_that_is_locked_is_refused_with_who_has_it(folder: DataFolder) -> None:
    folder.lock()

    message = refusal(DataFolder(folder.path))

    assert message == (
        f"the data folder {folder.path} is in use by another server (process {os.getpid()}); "
        "stop it, or name another folder with --data-dir"
    )


def test_refused_folder_stays_locked(folder: DataFolder) -> None:
    folder.lock()
    refusal(DataFolder(folder.path))

    message = refusal(DataFolder(folder.path))

    assert f"(process {os.getpid()})" in message


def test_folder_that_another_process_locked_is_refused(folder: DataFolder) -> None:
    command = [sys.executable, "-c", LOCKER, str(folder.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"

        message = refusal(folder)
        process.kill()

    assert f"(process {process.pid})" in message
    # The lock ends with its process, however that ended.
    folder.lock()


def test_unlocked_folder_can_be_locked_again(folder: DataFolder) -> None:
    folder.lock()

    folder.unlock()
    folder.unlock()

    other = DataFolder(folder.path)
    other.lock()
    other.unlock()


def test_lock_names_the_process_alone(folder: DataFolder) -> None:
    folder.path.mkdir()
    (folder.path / "lock").write_text("12345678901234567890\n")

    folder.lock()

    assert (folder.path / "lock").read_text() == f"{os.getpid()}\n"


def test_folder_that_cannot_be_made_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    message = refusal(DataFolder(tmp_path / "file" / "data"))

    assert message == (
        f"the data folder {tmp_path}/file/data cannot be written to: Not a directory; give it to "
        "the user that runs poussetaches, or name another with --data-dir"
    )


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")

    message = refusal(DataFolder(tmp_path / "data"))

    assert "cannot be written to: File exists" in message


def test_files_of_a_folder_lie_in_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)

    assert folder.database == tmp_path / "tasks.db"
    assert folder.reserve == tmp_path / "reserve"
