"""Checks that the files of an open database were neither moved, replaced nor truncated.

A process can write to an open file even after its name is gone: after its folder was moved,
deleted or covered by another mount, SQLite would continue with files that the next start cannot
find. SQLite does not notice a truncated WAL either: it writes behind the end that it remembers,
and the next start reads nothing behind the gap.
"""

from __future__ import annotations

import os
from pathlib import Path

from poussetaches.core.errors import StoreUnavailable
from poussetaches.store.sqlite.wal import wal_index_of, wal_of
from poussetaches.store.sqlite.wal_index import WalIndex


class FileIdentity:
    """The database, WAL and WAL index that the connections use.

    The database file stays open, so that its inode number cannot be reused. It must be closed
    after the connections, because closing a file releases all locks of the process on it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path
        self._wal = wal_of(path)
        self._descriptor: int | None = None
        self._index: WalIndex | None = None
        self._file_stat: os.stat_result | None = None
        self._wal_stat: os.stat_result | None = None
        self._file_size = 0  # the size that the file must still have

    def remember(self) -> None:
        """Record the identity of the files after they were opened.

        Raises:
            OSError: a file cannot be opened.
        """
        if self._descriptor is None:
            self._descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
            self._file_stat = os.fstat(self._descriptor)
        self._wal_stat = self._wal.stat()
        self._index = WalIndex(wal_index_of(self._file))
        self._file_size = 0

    def allow_shrinking(self) -> None:
        """Expect the file to be shortened by this process."""
        self._file_size = 0

    def check_is_there(self) -> None:
        """Check that the database is where it was.

        Raises:
            StoreUnavailable: it is missing, or is another file.
        """
        if self._file_stat is not None:
            _size(self._file, self._file_stat)

    def check_file(self) -> None:
        """Check that the database is where it was, and no shorter.

        Raises:
            StoreUnavailable: it is missing, truncated, or another file.
        """
        if self._file_stat is None:
            return
        size = _size(self._file, self._file_stat)
        if self._index is not None:
            needed = min(self._file_size, self._index.database_size)
            if size < needed:
                raise _CutShort(self._file, size, needed)
        self._file_size = size

    def check_wal(self) -> None:
        """Check that the WAL is where it was, and holds all commits.

        Raises:
            StoreUnavailable: it is missing, truncated, or another file.
        """
        if self._wal_stat is None or self._index is None:
            return
        size = _size(self._wal, self._wal_stat)
        if size < self._index.wal_size:
            raise _CutShort(self._wal, size, self._index.wal_size)

    def is_cut_short(self) -> bool:
        """Return whether the database or its WAL is truncated."""
        for check in (self.check_file, self.check_wal):
            try:
                check()
            except _CutShort:
                return True
            except StoreUnavailable:
                continue
        return False

    def close_index(self) -> None:
        """Close the index after the connections were closed. May be called twice."""
        index, self._index = self._index, None
        if index is not None:
            index.close()

    def close(self) -> None:
        """Close all files after the connections were closed. May be called twice."""
        self.close_index()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class _CutShort(StoreUnavailable):
    """A file is shorter than what was written to it."""

    def __init__(self, path: Path, size: int, needed: int) -> None:
        super().__init__(
            f"{path} was cut short by another program, to {size} of {needed} bytes: the "
            "last commits may be lost"
        )


def _size(path: Path, expected: os.stat_result) -> int:
    """Return the size of a file, and check its identity."""
    try:
        found = path.stat()
    except OSError as exc:
        raise StoreUnavailable(
            f"{path} is missing ({exc.strerror}): put it back with all files beside it"
        ) from exc
    if not os.path.samestat(found, expected):
        raise StoreUnavailable(
            f"{path} was replaced by another file: put the original file back, or restart "
            "poussetaches to use the new one"
        )
    return found.st_size
