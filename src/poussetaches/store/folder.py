"""The data folder: created if it is missing, and locked by the only server that uses it."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poussetaches.core.errors import CannotOpenStore, CannotWriteFile
from poussetaches.store import folder_lock
from poussetaches.store.advice import advice_on
from poussetaches.store.atomic_file import PRIVATE_MODE, open_private, sync_folder
from poussetaches.store.folder_lock import FolderLock

DATABASE = "tasks.db"
RESERVE = "reserve"
ADDRESS = "address"
# Tasks hold passwords and personal data.
PRIVATE = (
    *(f"{DATABASE}{suffix}" for suffix in ("", "-wal", "-shm", "-journal")),
    *(RESERVE, ADDRESS, folder_lock.FILE),
)
OTHERS = 0o077  # every right of the group and of all others

SERVER = "a server"
# Commands that read the store block the start of a server while they open the database, which may
# mean indexing a log of 64 MiB.
PATIENCE = 5.0  # seconds
RETRY = 0.05  # seconds

# Errors of flock on file systems without locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)

log = logging.getLogger(__name__)


class DataFolder:
    """A folder that one process at a time uses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FolderLock | None = None

    @property
    def database(self) -> Path:
        """The path of the database."""
        return self.path / DATABASE

    @property
    def reserve(self) -> Path:
        """The file that reserves space for a full disk."""
        return self.path / RESERVE

    @property
    def address_path(self) -> Path:
        """The file with the address of the running server."""
        return self.path.resolve() / ADDRESS

    @property
    def is_new(self) -> bool:
        """Whether it has no database yet; False if that is unknown."""
        try:
            return not self.database.exists()
        except OSError:
            return False

    def lock(self, *, user: str = SERVER, patience: float = PATIENCE) -> None:
        """Create the folder if necessary, and lock it; the process's end releases the lock.

        ``user`` names the holder in the errors of other processes. Waits up to ``patience``
        seconds for commands that are opening the store for reading.

        Raises:
            CannotOpenStore: it cannot be created or written to, or another process uses it.
        """
        try:
            if _make_folder(self.path):
                _hide_from_git(self.path)
            lock = FolderLock(self.path, create=True)
        except OSError as exc:
            raise CannotOpenStore(self._cannot_be_used(exc)) from exc
        try:
            self._take(lock, patience)
        except BaseException:
            lock.close()
            raise
        lock.name_owner(f"{os.getpid()}" if user == SERVER else f"{os.getpid()} {user}")
        self._lock = lock
        self._restrict_files()

    @contextmanager
    def address_file(self, address: str) -> Iterator[None]:
        """Publish the server's address in the file ``address`` during the block."""
        path = self.address_path
        try:
            path.unlink(missing_ok=True)
            with os.fdopen(open_private(path, os.O_WRONLY | os.O_EXCL), "w") as file:
                file.write(f"{address}\n")
        except OSError as exc:  # a full disk must not keep the server from starting
            log.warning("address not written", extra={"path": str(path), "error": exc.strerror})
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def server_address(self) -> str | None:
        """Return the address of the server that runs on the folder; None if none is known to run.

        A server that was killed leaves the file with its address behind.
        """
        try:
            address = self.address_path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        with self.reading() as lock:
            return address if address and lock.in_use else None

    def unlock(self) -> None:
        """Release the folder. May be called twice."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def has_lost_lock(self) -> bool:
        """Return whether the file that was locked is no longer the folder's.

        Then another process can lock the new one. A folder that was moved or deleted as a whole
        does not count: the store notices that.
        """
        return self._lock is not None and self._lock.is_lost()

    def check_not_own(self, target: Path) -> None:
        """Check that a file to write is none of the folder's, under any name.

        Raises:
            CannotWriteFile: it is, or would be.
        """
        if self._is_own(target) or self._is_own(target.resolve()):
            raise CannotWriteFile(
                f"{target} is a file of the data folder {self.path}; choose another file"
            )

    @contextmanager
    def reading(self) -> Iterator[ReadLock]:
        """Prevent servers from starting until the lock is released; write nothing."""
        try:
            lock = FolderLock(self.path, create=False)
        except OSError:
            yield ReadLock(None, in_use=True)  # this user cannot know
            return
        try:
            try:
                in_use = not lock.take_shared()
            except OSError:
                in_use = True
            yield ReadLock(lock, in_use=in_use)
        finally:
            lock.close()

    def _is_own(self, target: Path) -> bool:
        with suppress(OSError):  # a folder of the path does not exist
            is_inside = target.parent.samefile(self.path)
            if is_inside and (target.name in PRIVATE or target.name.startswith(DATABASE)):
                return True
        for name in PRIVATE:
            with suppress(OSError):  # one of them does not exist
                if target.samefile(self.path / name):
                    return True
        return False

    def _take(self, lock: FolderLock, patience: float) -> None:
        deadline = time.monotonic() + patience
        try:
            while not lock.take_alone():
                # If a shared lock can be taken, the holders are commands that read.
                if not lock.take_shared():
                    raise CannotOpenStore(self._in_use_by(lock.owner))
                lock.release()
                if time.monotonic() >= deadline:
                    raise CannotOpenStore(
                        f"the data folder {self.path} is being read by `poussetaches backup`, "
                        "`export` or `verify`; start again once that has ended"
                    )
                time.sleep(RETRY)
        except OSError as exc:
            advice = "; name a folder on a local disk with --data-dir"
            raise CannotOpenStore(
                f"the data folder {self.path} cannot be locked: {exc.strerror}"
                f"{advice if exc.errno in NO_LOCKS else ''}"
            ) from exc

    def _in_use_by(self, owner: str) -> str:
        process, _, user = owner.partition(" ")
        return (
            f"the data folder {self.path} is in use by {user or SERVER}"
            f"{f' (process {process})' if process else ''}; stop it, or name another folder with "
            "--data-dir"
        )

    def _cannot_be_used(self, exc: OSError) -> str:
        if obstacle := _obstacle_to(self.path):
            return (
                f"the data folder {self.path} cannot be created: {obstacle};"
                " name another with --data-dir"
            )
        place = f"{exc.filename}: " if exc.filename not in (None, str(self.path)) else ""
        advice = advice_on(exc)
        return (
            f"the data folder {self.path} cannot be written to: {place}{exc.strerror}"
            f"{advice}{', or' if advice else ';'} name another with --data-dir"
        )

    def _restrict_files(self) -> None:
        """Revoke other users' access to files; older versions left their modes to the umask."""
        for name in PRIVATE:
            path = self.path / name
            if not _is_open_to_others(path):
                continue
            try:
                path.chmod(PRIVATE_MODE)
            except OSError as exc:
                fields = {"file": str(path), "error": exc.strerror}
                log.warning("file is open to other users", extra=fields)


class ReadLock:
    """Prevents servers from starting while a store is being opened for reading."""

    def __init__(self, lock: FolderLock | None, *, in_use: bool) -> None:
        self.in_use = in_use  # by a server; True if this user cannot know
        self._lock = lock

    def release(self) -> None:
        """Allow servers to start. May be called twice."""
        if self._lock is not None:
            self._lock.release()


def _is_open_to_others(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:  # it does not exist, or opening it raises the error
        return False
    return stat.S_ISREG(mode) and bool(mode & OTHERS)


def _make_folder(path: Path) -> bool:
    """Create a folder and its missing parents durably; return whether the folder is new."""
    missing = [each for each in (path, *path.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir(0o700 if each == path else 0o777, exist_ok=True)
        sync_folder(each.parent)
    return bool(missing)


def _obstacle_to(path: Path) -> str | None:
    """Return why no user can create a folder at a path; None if the reason is unknown."""
    try:
        Path.cwd()
    except FileNotFoundError:
        if not path.is_absolute():
            return "the current folder was deleted"
    with suppress(OSError):
        for each in (path, *path.parents):
            if each.is_symlink() and not each.exists():
                return f"{each} is a link to {each.readlink()}, which does not exist"
            if each.exists() and not each.is_dir():
                return f"{each} is not a folder"
    return None


def _hide_from_git(folder: Path) -> None:
    """Make git ignore a folder, which is often inside a project."""
    with suppress(OSError):  # a full disk: nothing depends on it
        descriptor = open_private(folder / ".gitignore", os.O_WRONLY | os.O_EXCL)
        with os.fdopen(descriptor, "w") as file:
            file.write("*\n")
