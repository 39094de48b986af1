from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poussetaches.core.errors import CannotOpenStore, CannotWriteFile
from poussetaches.store.folder import DataFolder

# Locks the folder, prints a line, and exits when its input ends.
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
        folder.lock(patience=0.0)
    return str(caught.value)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the inode number of each synced file is added."""
    numbers: list[int] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        numbers.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    return numbers


def test_folder_is_created_with_its_parents(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "a" / "b")

    folder.lock()

    assert (tmp_path / "a" / "b").is_dir()
    folder.unlock()


def test_new_folder_is_only_for_our_user(folder: DataFolder) -> None:
    folder.lock()

    assert mode(folder.path) == 0o700


def test_new_folders_are_synced_up_to_the_first_that_existed(
    tmp_path: Path, synced: list[int]
) -> None:
    folder = DataFolder(tmp_path / "a" / "b" / "data")

    folder.lock()

    above = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert synced == [each.stat().st_ino for each in above]
    folder.unlock()


def test_existing_folder_is_not_synced(folder: DataFolder, synced: list[int]) -> None:
    folder.path.mkdir()

    folder.lock()

    assert synced == []


def test_folder_below_one_that_cannot_be_synced_is_created(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fail)

    folder.lock()

    assert folder.path.is_dir()


def test_folder_whose_name_did_not_reach_the_disk_is_refused(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)

    assert "Input/output error" in refusal(folder)


def test_new_folder_is_ignored_by_git(folder: DataFolder) -> None:
    folder.lock()

    assert (folder.path / ".gitignore").read_text() == "*\n"


def test_existing_folder_gets_no_gitignore(folder: DataFolder) -> None:
    folder.path.mkdir()

    folder.lock()

    assert [file.name for file in folder.path.iterdir()] == ["lock"]


def test_folder_is_new_until_it_has_tasks(folder: DataFolder) -> None:
    folder.lock()
    before = folder.is_new
    folder.database.touch()

    assert (before, folder.is_new) == (True, False)


def test_permissions_of_an_existing_folder_are_not_changed(folder: DataFolder) -> None:
    folder.path.mkdir()
    folder.path.chmod(0o750)

    folder.lock()

    assert mode(folder.path) == 0o750


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_new_files_are_only_for_our_user(folder: DataFolder, umask: int) -> None:
    folder.path.mkdir(mode=0o755)
    before = os.umask(umask)
    try:
        folder.lock()
    finally:
        os.umask(before)

    assert mode(folder.path / "lock") == 0o600


def test_files_of_older_versions_are_restricted_to_our_user(folder: DataFolder) -> None:
    names = ("tasks.db", "tasks.db-wal", "tasks.db-shm", "reserve", "lock")
    folder.path.mkdir(mode=0o755)
    for name in names:
        (folder.path / name).touch()
        (folder.path / name).chmod(0o664)

    folder.lock()

    assert {name: mode(folder.path / name) for name in names} == dict.fromkeys(names, 0o600)


def test_file_whose_mode_cannot_be_restricted_is_logged(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    folder.path.mkdir(mode=0o755)
    folder.database.touch(0o644)
    monkeypatch.setattr(os, "chmod", fail)

    folder.lock()

    assert [(r.levelno, r.message) for r in caplog.records] == [
        (logging.WARNING, "file is open to other users")
    ]


def test_locked_folder_is_refused_with_its_holder(folder: DataFolder) -> None:
    folder.lock()

    message = refusal(DataFolder(folder.path))

    assert message == (
        f"the data folder {folder.path} is in use by a server (process {os.getpid()}); "
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
    # The lock is released when its process ends, even by a kill.
    folder.lock()


def test_folder_that_an_import_locked_is_refused_with_its_holder(folder: DataFolder) -> None:
    folder.lock(user="an import")

    message = refusal(DataFolder(folder.path))

    assert f"is in use by an import (process {os.getpid()});" in message


def test_deleted_lock_file_does_not_allow_a_second_server(folder: DataFolder) -> None:
    folder.lock()
    (folder.path / "lock").unlink()

    message = refusal(DataFolder(folder.path))

    assert "is in use by a server" in message


@pytest.mark.parametrize("made", [False, True], ids=["deleted", "replaced"])
def test_missing_lock_file_is_a_lost_lock(folder: DataFolder, made: bool) -> None:
    folder.lock()
    before = folder.has_lost_lock()
    (folder.path / "lock").rename(folder.path / "other")
    if made:
        (folder.path / "lock").touch()

    assert (before, folder.has_lost_lock()) == (False, True)


@pytest.mark.parametrize("end", ["moved", "replaced", "deleted"])
def test_missing_folder_has_not_lost_its_lock(
    folder: DataFolder, tmp_path: Path, end: str
) -> None:
    folder.lock()
    if end == "deleted":
        shutil.rmtree(folder.path)
    else:
        folder.path.rename(tmp_path / "away")
    if end == "replaced":
        folder.path.mkdir()

    assert folder.has_lost_lock() is False


def test_folder_that_is_being_read_is_refused_with_the_reason(folder: DataFolder) -> None:
    folder.path.mkdir()

    with folder.reading() as lock:
        message = refusal(DataFolder(folder.path))
        lock.release()
        DataFolder(folder.path).lock()

    assert lock.in_use is False
    assert message == (
        f"the data folder {folder.path} is being read by `poussetaches backup`, `export` or "
        "`verify`; start again once that has ended"
    )


def test_folder_that_an_older_version_reads_is_refused_with_the_reason(folder: DataFolder) -> None:
    folder.lock()
    folder.unlock()
    with (folder.path / "lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)

        message = refusal(folder)

    assert "is being read by" in message


def test_folder_that_an_older_version_serves_is_refused(folder: DataFolder) -> None:
    folder.lock()
    folder.unlock()
    with (folder.path / "lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        with folder.reading() as lock:
            message = refusal(folder)

    assert lock.in_use is True
    assert "is in use by a server" in message


def test_folder_without_a_lock_file_can_be_read(folder: DataFolder) -> None:
    folder.path.mkdir()

    with folder.reading() as lock:
        pass

    assert lock.in_use is False
    assert list(folder.path.iterdir()) == []


class FileSystem:
    """A file system on which locking fails, for folders only or for all files."""

    def __init__(self, number: int, *, of_files: bool) -> None:
        self._number = number
        self._of_files = of_files
        self._flock = fcntl.flock

    def flock(self, descriptor: int, kind: int) -> None:
        if self._of_files or stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(self._number, os.strerror(self._number))
        self._flock(descriptor, kind)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP], ids=os.strerror)
def test_file_system_without_locks_is_refused_with_the_reason(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", FileSystem(number, of_files=True).flock)

    assert refusal(folder) == (
        f"the data folder {folder.path} cannot be locked: {os.strerror(number)}; name a folder on "
        "a local disk with --data-dir"
    )
    with folder.reading() as lock:
        assert lock.in_use is True  # unknown


def test_file_system_that_can_only_lock_files_is_accepted(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", FileSystem(errno.EBADF, of_files=False).flock)
    folder.lock()

    message = refusal(DataFolder(folder.path))

    assert "is in use by a server" in message


def test_unlocked_folder_can_be_locked_again(folder: DataFolder) -> None:
    folder.lock()

    folder.unlock()
    folder.unlock()

    other = DataFolder(folder.path)
    other.lock()
    other.unlock()


def test_lock_file_has_only_the_process_id(folder: DataFolder) -> None:
    folder.path.mkdir()
    (folder.path / "lock").write_text("12345678901234567890\n")

    folder.lock()

    assert (folder.path / "lock").read_text() == f"{os.getpid()}\n"


def test_file_in_the_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    message = refusal(DataFolder(tmp_path / "file" / "data"))

    assert message == (
        f"the data folder {tmp_path}/file/data cannot be created: {tmp_path}/file is not a folder"
        "; name another with --data-dir"
    )


def test_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")

    message = refusal(DataFolder(tmp_path / "data"))

    assert message == (
        f"the data folder {tmp_path}/data cannot be created: {tmp_path}/data is not a folder; "
        "name another with --data-dir"
    )


@pytest.mark.parametrize("name", ["link", "link/data"])
def test_link_to_a_missing_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("nowhere")

    message = refusal(DataFolder(tmp_path / name))

    assert message == (
        f"the data folder {tmp_path}/{name} cannot be created: {tmp_path}/link is a link to "
        "nowhere, which does not exist; name another with --data-dir"
    )
    assert not (tmp_path / "nowhere").exists()


def test_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    folder = DataFolder(tmp_path / "link" / "data")

    folder.lock()

    assert (tmp_path / "there" / "data").is_dir()
    folder.unlock()


def test_current_folder_that_was_deleted_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    message = refusal(DataFolder(Path("poussetaches_data")))

    assert message == (
        "the data folder poussetaches_data cannot be created: the current folder was deleted; "
        "name another with --data-dir"
    )


def test_file_system_that_cannot_create_folders_is_refused_with_its_error() -> None:
    message = refusal(DataFolder(Path("/proc/data")))

    assert message == (
        "the data folder /proc/data cannot be written to: No such file or directory; "
        "name another with --data-dir"
    )


def test_name_that_is_too_long_is_refused_with_its_error(tmp_path: Path) -> None:
    message = refusal(DataFolder(tmp_path / ("x" * 300)))

    assert message.endswith(
        " cannot be written to: File name too long; name another with --data-dir"
    )


def test_folder_of_another_user_is_refused_with_what_to_do(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", fail)  # root is allowed everything

    assert refusal(folder) == (
        f"the data folder {folder.path} cannot be written to: Permission denied; give it to the "
        "user that runs poussetaches, or name another with --data-dir"
    )


def test_file_that_cannot_be_written_is_named(folder: DataFolder) -> None:
    (folder.path / "lock").mkdir(parents=True)

    message = refusal(folder)

    assert f"cannot be written to: {folder.path}/lock: Is a directory; name another" in message


def test_paths_of_files_are_in_the_folder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)

    assert folder.database == tmp_path / "tasks.db"
    assert folder.reserve == tmp_path / "reserve"


@pytest.mark.parametrize(
    "name",
    [
        *("tasks.db", "tasks.db-wal", "tasks.db-shm", "tasks.db-journal", "tasks.db.importing"),
        *("reserve", "address", "lock"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_own_file_is_no_target(folder: DataFolder, name: str, exists: bool) -> None:
    folder.path.mkdir()
    if exists:
        (folder.path / name).touch()

    with pytest.raises(CannotWriteFile, match="is a file of the data folder"):
        folder.check_not_own(folder.path / name)


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symlink", "hard link"])
def test_link_to_an_own_file_is_no_target(
    folder: DataFolder, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    folder.path.mkdir()
    (folder.path / "tasks.db-wal").touch()
    link(folder.path / "tasks.db-wal", tmp_path / "backup.db")

    with pytest.raises(CannotWriteFile, match="is a file of the data folder"):
        folder.check_not_own(tmp_path / "backup.db")


def test_own_file_behind_a_link_to_the_folder_is_no_target(
    folder: DataFolder, tmp_path: Path
) -> None:
    folder.path.mkdir()
    (tmp_path / "link").symlink_to(folder.path)

    with pytest.raises(CannotWriteFile, match="is a file of the data folder"):
        folder.check_not_own(tmp_path / "link" / "tasks.db-wal")


def test_other_file_in_the_folder_is_a_target(folder: DataFolder, tmp_path: Path) -> None:
    folder.path.mkdir()
    (folder.path / "tasks.db").touch()

    folder.check_not_own(folder.path / "backup.db")
    folder.check_not_own(tmp_path / "tasks.db")
    folder.check_not_own(tmp_path / "missing" / "tasks.db")
