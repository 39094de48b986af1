"""The start of the WAL's index, which has the minimum size of the WAL.

SQLite shares its memory between processes, so reading it needs no system call
(https://www.sqlite.org/walformat.html, "The WAL-Index File Format").
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from struct import Struct

from poussetaches.store.sqlite.wal import FRAME_HEADER, WAL_HEADER

# The size of a page, the number of frames that are committed, the number of pages.
_FIELDS = Struct("=HII")
_FIELDS_AT = 14  # bytes
_LARGEST = 1  # stands for pages of 64 KiB


class WalIndex:
    """The index of a database that is open in this process.

    It must be closed after the connections, because closing a file releases all locks of the
    process on it. Its fields are only consistent between two transactions of the only writer.
    """

    def __init__(self, path: Path) -> None:
        """Map the index into memory.

        Raises:
            OSError: it does not exist.
        """
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            self._map = mmap.mmap(
                self._descriptor, _FIELDS_AT + _FIELDS.size, access=mmap.ACCESS_READ
            )
        except (OSError, ValueError) as exc:
            os.close(self._descriptor)
            raise OSError(f"{path} cannot be mapped: {exc}") from exc

    @property
    def wal_size(self) -> int:
        """The minimum size of the WAL in bytes."""
        page, frames, _ = self._fields()
        return WAL_HEADER + frames * (FRAME_HEADER + page) if frames else 0

    @property
    def database_size(self) -> int:
        """The size of the database in bytes, including pages that are only in the WAL."""
        page, _, pages = self._fields()
        return page * pages

    def close(self) -> None:
        """Unmap the index."""
        self._map.close()
        os.close(self._descriptor)

    def _fields(self) -> tuple[int, int, int]:
        page, frames, pages = _FIELDS.unpack_from(self._map, _FIELDS_AT)
        return 0x10000 if page == _LARGEST else page, frames, pages
