"""The lock of a data folder."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from poussetaches.store.atomic_file import open_private

FILE = "lock"
OWNER_SIZE = 32  # bytes


class FolderLock:
    """A lock on a folder itself and on the file ``lock`` in it.

    Two locks, because each can fail: clean-up and copy programs delete files, and some file
    systems cannot lock folders. Version 1.0 only locks the file.
    """

    def __init__(self, folder: Path, *, create: bool) -> None:
        """Open the folder and its file, without locking them; a file to be read may be missing.

        Raises:
            OSError: one of them cannot be opened.
        """
        self._file_path = folder / FILE
        self._folder_path = folder
        self._file: int | None = None
        self._folder: int | None = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if create:
                self._file = open_private(self._file_path, os.O_RDWR)
            else:
                with suppress(FileNotFoundError):  # no server has been here
                    self._file = os.open(self._file_path, os.O_RDONLY)
        except OSError:
            self.close()
            raise

    @property
    def owner(self) -> str:
        """The text written by the last process that locked it exclusively."""
        if self._file is None:
            return ""
        return os.pread(self._file, OWNER_SIZE, 0).decode("ascii", "replace").strip()

    def take_alone(self) -> bool:
        """Take an exclusive lock; return False if another process holds any lock.

        Raises:
            OSError: the file system has no locks.
        """
        return self._take(fcntl.LOCK_EX)

    def take_shared(self) -> bool:
        """Take a shared lock; return False if another process holds an exclusive one.

        Raises:
            OSError: the file system has no locks.
        """
        return self._take(fcntl.LOCK_SH)

    def name_owner(self, owner: str) -> None:
        """Write the holder of the exclusive lock into the file."""
        assert self._file is not None
        with suppress(OSError):  # on a full disk the holder stays unnamed
            os.truncate(self._file, 0)
            os.pwrite(self._file, f"{owner}\n".encode(), 0)

    def is_lost(self) -> bool:
        """Return whether the folder is still there but its file is no longer the locked one."""
        assert self._folder is not None
        assert self._file is not None
        try:
            if not os.path.samestat(self._folder_path.stat(), os.fstat(self._folder)):
                return False
        except OSError:
            return False
        try:
            return not os.path.samestat(self._file_path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return True
        except OSError:  # a failing disk does not prove it
            return False

    def release(self) -> None:
        """Release both locks."""
        for descriptor in (self._folder, self._file):
            if descriptor is not None:
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release both locks and close the files. May be called twice."""
        descriptors = (self._folder, self._file)
        self._folder = self._file = None
        for descriptor in descriptors:
            if descriptor is not None:
                os.close(descriptor)

    def _take(self, kind: int) -> bool:
        assert self._folder is not None
        try:
            taken = _flock(self._folder, kind)
        except OSError:  # some network file systems cannot lock folders: the file's lock is enough
            taken = True
        if taken and self._file is not None:
            taken = _flock(self._file, kind)
        if not taken:
            self.release()
        return taken


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
