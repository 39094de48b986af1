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
    """The file, the log and the log's index that a database was opened with.

    The file stays open, so that its inode number cannot be reused. It is closed after the
    connections, since closing a file releases all locks of the process on it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path
        self._log = wal_of(path)
        self._descriptor: int | None = None
        self._index: WalIndex | None = None
        self._file_stat: os.stat_result | None = None
        self._log_stat: os.stat_result | None = None
        self._file_size = 0  # the size that the file must still have

    def remember(self) -> None:
        """Remember the files as they are after opening.

        Raises:
            OSError: a file cannot be opened.
        """
        if self._descriptor is None:
            self._descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
            self._file_stat = os.fstat(self._descriptor)
        self._log_stat = self._log.stat()
        self._index = WalIndex(wal_index_of(self._file))
        self._file_size = 0

    def allow_shrinking(self) -> None:
        """Expect the file to be shortened by this process."""
        self._file_size = 0

    def check_is_there(self) -> None:
        """Check that the database is where it was.

        Raises:
            StoreUnavailable: it is gone, or there is another.
        """
        if self._file_stat is not None:
            _size(self._file, self._file_stat)

    def check_file(self) -> None:
        """Check that the database is where it was, and no shorter.

        Raises:
            StoreUnavailable: it is gone or cut short, or there is another.
        """
        if self._file_stat is None:
            return
        size = _size(self._file, self._file_stat)
        if self._index is not None:
            needed = min(self._file_size, self._index.database_size)
            if size < needed:
                raise _CutShort(self._file, size, needed)
        self._file_size = size

    def check_log(self) -> None:
        """Check that the log is where it was, and holds all that was committed to it.

        Raises:
            StoreUnavailable: it is gone or cut short, or there is another.
        """
        if self._log_stat is None or self._index is None:
            return
        size = _size(self._log, self._log_stat)
        if size < self._index.log_size:
            raise _CutShort(self._log, size, self._index.log_size)

    def is_cut_short(self) -> bool:
        """Return whether a check finds one of them cut short."""
        for check in (self.check_file, self.check_log):
            try:
                check()
            except _CutShort:
                return True
            except StoreUnavailable:
                continue
        return False

    def close_index(self) -> None:
        """Close the index, once no connection is open. May be called twice."""
        index, self._index = self._index, None
        if index is not None:
            index.close()

    def close(self) -> None:
        """Close everything, once no connection is open. May be called twice."""
        self.close_index()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class _CutShort(StoreUnavailable):
    """A file is shorter than what was written to it."""

    def __init__(self, path: Path, size: int, needed: int) -> None:
        super().__init__(
            f"{path} was cut short by another program, to {size} of {needed} bytes: what was "
            "committed last may be lost"
        )


def _size(path: Path, known: os.stat_result) -> int:
    """Return the size of a file, which must be the known one."""
    try:
        found = path.stat()
    except OSError as exc:
        raise StoreUnavailable(
            f"{path} is gone ({exc.strerror}): put it back with all that was beside it"
        ) from exc
    if not os.path.samestat(found, known):
        raise StoreUnavailable(
            f"{path} is another file than the one in use: put that one back, or restart "
            "poussetaches to use this one"
        )
    return found.st_size
