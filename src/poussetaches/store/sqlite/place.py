"""Whether a database's files are still where they were opened.

A file that was opened can be written to for as long as it is held, wherever its name has gone:
after its folder was moved, deleted or covered by another, SQLite would go on with files that the
next start cannot find.
"""

from __future__ import annotations

import os
from pathlib import Path

from poussetaches.core.errors import StoreUnavailable


class Place:
    """The file and the log that a database was opened with.

    The file is held open, so that no other can come to have its number meanwhile. It is let go of
    after the connections: to close a file takes away the locks that the process has on it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path
        self._log = path.with_name(f"{path.name}-wal")
        self._held: int | None = None
        self._file_stat: os.stat_result | None = None
        self._log_stat: os.stat_result | None = None

    def keep(self) -> None:
        """Take what is there, now that it has been opened, for what is to stay there."""
        if self._held is None:
            self._held = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
            self._file_stat = os.fstat(self._held)
        self._log_stat = self._log.stat()

    def check_file(self) -> None:
        """See that the database is where it was.

        Raises:
            StoreUnavailable: it is gone, or there is another.
        """
        if self._file_stat is not None:
            _check(self._file, self._file_stat)

    def check(self) -> None:
        """See that the database and its log are where they were.

        Raises:
            StoreUnavailable: one is gone, or there is another.
        """
        # Each commit comes by here, and each look hands the interpreter's lock over: two will do.
        self.check_file()
        if self._log_stat is not None:
            _check(self._log, self._log_stat)

    def let_go(self) -> None:
        """Hold nothing any more. May be called twice."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)


def _check(path: Path, known: os.stat_result) -> None:
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
