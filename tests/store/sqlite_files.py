"""SQLite stores for tests, and ways to damage them."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from poussetaches.store import export_store, import_store
from poussetaches.store.folder import DataFolder
from poussetaches.store.runner import InlineRunner, Runner
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.reserve import Reserve
from poussetaches.store.sqlite.transaction import RowFault
from tests.factories import NOW, seeded


def sqlite_error(code: int) -> sqlite3.OperationalError:
    """Return an error as SQLite raises it."""
    error = sqlite3.OperationalError(f"made up, code {code}")
    error.sqlite_errorcode = code
    return error


FULL = sqlite_error(sqlite3.SQLITE_FULL)
BROKEN = sqlite_error(sqlite3.SQLITE_IOERR | 4 << 8)  # SQLITE_IOERR_FSYNC


class Disk:
    """Commits transactions, or fails while a test asks for it."""

    def __init__(self) -> None:
        self.error: sqlite3.Error | None = None
        self.keeps_what_fails = False  # as a failed sync may do
        self.commit_count = 0  # failed ones included
        self._connection: sqlite3.Connection | None = None

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit the open transaction, or fail."""
        self._connection = connection
        self.commit_count += 1
        if self.error is None or self.keeps_what_fails:
            connection.execute("COMMIT")
        if self.error is not None:
            raise self.error

    def pragma(self, name: str) -> object:
        """Return a setting of the connection that committed last."""
        assert self._connection is not None
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]


def inline_store(
    path: Path | None,
    *,
    disk: Disk | None = None,
    reserve: Reserve | None = None,
    writer: Runner | None = None,
    row_fault: RowFault | None = None,
    reader: Runner | None = None,
) -> SqliteStore:
    """Return a store without threads, which is not open yet."""
    return SqliteStore(
        path,
        writer=writer or InlineRunner(),
        reader=reader or InlineRunner(),
        now=lambda: NOW,
        random=seeded(),
        commit=(disk or Disk()).commit,
        reserve=reserve,
        row_fault=row_fault,
    )


@asynccontextmanager
async def opened(
    path: Path | None,
    *,
    disk: Disk | None = None,
    reserve: Reserve | None = None,
    row_fault: RowFault | None = None,
) -> AsyncIterator[SqliteStore]:
    """Open a store and close it."""
    store = inline_store(path, disk=disk, reserve=reserve, row_fault=row_fault)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def raw(path: Path) -> sqlite3.Connection:
    """Open a database without the store."""
    return sqlite3.connect(path, isolation_level=None)


def content_of(path: Path) -> bytes | None:
    """Return a file's content, or None if it is missing."""
    return path.read_bytes() if path.exists() else None


def put(path: Path, content: bytes) -> None:
    """Replace a database and its log with a file."""
    remove(path)
    path.write_bytes(content)


def overwrite(path: Path, content: bytes) -> None:
    """Overwrite a file in place."""
    path.write_bytes(content)


def move(path: Path, target: Path) -> None:
    """Rename a file."""
    path.rename(target)


def remove(path: Path) -> None:
    """Delete a database and its log."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def exported(folder: DataFolder, *, salvage: bool = False) -> bytes:
    """Return the export of a folder."""
    out = io.BytesIO()
    export_store(folder, out.write, lambda *_: None, now=NOW, salvage=salvage)
    return out.getvalue()


async def imported(path: Path, content: bytes) -> DataFolder:
    """Import an export into a new folder."""
    folder = DataFolder(path)
    folder.lock()
    folder.unlock()
    await import_store(
        folder, io.BytesIO(content), lambda *_: None, now=lambda: NOW, random=seeded()
    )
    return folder
