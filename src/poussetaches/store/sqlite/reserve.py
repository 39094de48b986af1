"""A file that keeps some of the disk free, for what must be written when it is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from poussetaches.store.atomic_file import open_private

RESERVE = 16 * 1024 * 1024  # bytes; room for some ten thousand outcomes
# Bytes that must be free besides. Without them the room just given up would be taken back before
# anything was written to it, and again, for as long as the disk is full.
MARGIN = 4 * 1024 * 1024


class Reserve:
    """Room on the disk that is given up first when the disk is full."""

    def __init__(self, path: Path, size: int = RESERVE) -> None:
        self._path = path
        self._size = size

    @property
    def is_needed(self) -> bool:
        """Tell whether the disk has so little room left that the reserve is to be given up."""
        return free_bytes(self._path.parent) < MARGIN

    def take(self) -> None:
        """Claim the room, unless it is claimed already.

        Raises:
            OSError: there is not enough, with what must stay free.
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
        """Return what is missing on the disk, for people."""
        try:
            free, needed = free_bytes(self._path.parent), self._missing() + MARGIN
        except OSError:  # its folder is gone
            return "the disk is full: nothing can be stored until there is room again"
        return (
            f"the disk is full: {in_mib(free)} are free, and {in_mib(needed)} must be free before "
            "anything new is stored"
        )

    def give_up(self) -> None:
        """Give the room back to the disk."""
        self._path.unlink(missing_ok=True)

    def _missing(self) -> int:
        return self._size - (self._path.stat().st_size if self._path.exists() else 0)


def free_bytes(folder: Path) -> int:
    """Return how many bytes of a folder's disk may be used."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def in_mib(size: int) -> str:
    """Return a number of bytes in words, such as ``14.5 MiB``, rounded down."""
    return f"{size * 10 // (1024 * 1024) / 10:,} MiB"
