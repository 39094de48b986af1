"""A file that keeps some of the disk free, for what must be written when it is full."""

from __future__ import annotations

import os
from pathlib import Path

RESERVE = 16 * 1024 * 1024  # bytes; room for some ten thousand outcomes


class Reserve:
    """Room on the disk that is given up first when the disk is full."""

    def __init__(self, path: Path, size: int = RESERVE) -> None:
        self._path = path
        self._size = size

    def take(self) -> None:
        """Claim the room, unless it is claimed already.

        Raises:
            OSError: there is not enough.
        """
        if self._path.exists() and self._path.stat().st_size == self._size:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
            os.fsync(descriptor)
        except OSError:
            self._path.unlink()
            raise
        finally:
            os.close(descriptor)

    def give_up(self) -> None:
        """Give the room back to the disk."""
        self._path.unlink(missing_ok=True)
