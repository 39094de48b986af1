"""The reserve file: disk space for the writes that must succeed on a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from poussetaches.store.atomic_file import open_private

RESERVE = 16 * 1024 * 1024  # bytes; enough for about ten thousand outcomes
# Bytes that must be free in addition. Otherwise the reserve would be claimed again right after it
# was released, before anything was written, as long as the disk is full.
MARGIN = 4 * 1024 * 1024


class Reserve:
    """A file that is deleted when the disk is full, and created again later."""

    def __init__(self, path: Path, size: int = RESERVE) -> None:
        self._path = path
        self._size = size

    @property
    def is_needed(self) -> bool:
        """Whether the disk has so little free space that the reserve should be released."""
        return free_bytes(self._path.parent) < MARGIN

    def claim(self) -> None:
        """Create the file, unless it exists.

        Raises:
            OSError: there is not enough free space for it and ``MARGIN``.
        """
        missing = self._missing()
        if free_bytes(self._path.parent) < missing + MARGIN:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        if not missing:
            return
        descriptor = open_private(self._path, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
            os.fsync(descriptor)
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def describe_shortage(self) -> str:
        """Return the error message for a full disk."""
        try:
            free, needed = free_bytes(self._path.parent), self._missing() + MARGIN
        except OSError:  # its folder is gone
            return "the disk is full: nothing can be stored until there is free space"
        return (
            f"the disk is full: {in_mib(free)} are free, and {in_mib(needed)} must be free before "
            "anything new is stored"
        )

    def release(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)

    def _missing(self) -> int:
        return self._size - (self._path.stat().st_size if self._path.exists() else 0)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of a folder's disk that this user may use."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def in_mib(size: int) -> str:
    """Return a number of bytes as text, such as ``14.5 MiB``, rounded down."""
    return f"{size * 10 // (1024 * 1024) / 10:,} MiB"
