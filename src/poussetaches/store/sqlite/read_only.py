"""Read-only access to a database, whether its server runs or not; no byte of its files changes."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from poussetaches.core.errors import CannotOpenStore
from poussetaches.store.folder import DataFolder, ReadLock
from poussetaches.store.sqlite.file_length import missing_pages
from poussetaches.store.sqlite.wal import is_empty, wal_index_of, wal_of
from poussetaches.store.sqlite.wal_owner import FilesProblem, files_problem, orphan_problem

WAIT = 5000  # milliseconds, while a server locks the database

IMMUTABLE = "&immutable=1"  # only the database's file is read, without locks

# Errors if SQLite cannot create its files because of missing space or permission.
CANNOT_WRITE = (
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL),
)

# Every connection in WAL mode holds a shared lock on these bytes; the last one to close locks them
# exclusively (https://www.sqlite.org/fileformat2.html, "the lock-byte page").
SHARED_FIRST, SHARED_SIZE = 0x40000002, 510


class ReadOnlyDatabase(NamedTuple):
    """A read-only connection, and the state of the files."""

    connection: sqlite3.Connection
    in_use: bool  # by a server
    missing_pages: int
    problem: FilesProblem | None  # the reason why the WAL was not read


@contextmanager
def open_read_only(
    folder: DataFolder, *, salvage: bool = False, skip_unrelated_wal: bool = False
) -> Iterator[ReadOnlyDatabase]:
    """Open a folder's database for reading, in one transaction; a server may start concurrently.

    ``salvage`` reads the rest of a truncated file.

    Raises:
        CannotOpenStore: it is missing or unreadable, or the WAL belongs to another database.
        sqlite3.DatabaseError: pages are missing.
    """
    path = folder.database
    with folder.reading() as lock:
        # Before SQLite opens the files, because closing a file releases all locks of the
        # process on it.
        problem, missing = _check_files(
            path, in_use=lock.in_use, skip_unrelated_wal=skip_unrelated_wal
        )
        if missing and not salvage:
            raise sqlite3.DatabaseError(f"{missing} pages are missing")
        with (
            _deleting_new_files(path),
            closing(
                connect_query_only(path, IMMUTABLE)
                if problem is not None
                else _connect_beside(path, lock)
            ) as connection,
        ):
            if missing:
                connection.execute("PRAGMA writable_schema = ON")
            yield ReadOnlyDatabase(connection, lock.in_use, missing, problem)


@contextmanager
def connect_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect to the database of a locked folder without changing its files."""
    uri_parameters = IMMUTABLE if is_empty(wal_of(path)) else _uri_parameters(path)
    with (
        _deleting_new_files(path),
        closing(connect_query_only(path, uri_parameters)) as connection,
    ):
        yield connection


def _check_files(
    path: Path, *, in_use: bool, skip_unrelated_wal: bool
) -> tuple[FilesProblem | None, int]:
    """Return whether the WAL belongs to another database, and how many pages are missing."""
    try:
        # While a server runs, its file and WAL change between two reads.
        problem = orphan_problem(path) if in_use else files_problem(path)
        if problem is not None and (is_empty(path) or not skip_unrelated_wal):
            raise CannotOpenStore(f"{path} cannot be read: {problem}")
        return problem, missing_pages(path, with_wal=problem is None)
    except OSError as exc:
        raise CannotOpenStore(f"{path} cannot be read: {exc.strerror}") from exc


def _connect_beside(path: Path, lock: ReadLock) -> sqlite3.Connection:
    """Return a connection with an open transaction; a server may run, or start concurrently.

    From then on SQLite's own locks protect what it reads. If it cannot create the files that they
    need, or the database has no WAL yet, no server can start before the folder is unlocked.
    """
    connection = connect_query_only(path, "" if lock.in_use else _uri_parameters(path))
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        has_wal = connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    except sqlite3.DatabaseError as exc:
        cannot_write = getattr(exc, "sqlite_errorcode", 0) & 0xFF in CANNOT_WRITE
        if lock.in_use or not is_empty(wal_of(path)) or not cannot_write:
            return connection  # the next read raises the error
        connection.close()
        return connect_query_only(path, IMMUTABLE)
    if has_wal:
        lock.release()
    return connection


def connect_query_only(path: Path, uri_parameters: str = "") -> sqlite3.Connection:
    """Open a database on a connection that cannot write to it."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{uri_parameters}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute(f"PRAGMA busy_timeout = {WAIT}")
    connection.execute("PRAGMA query_only = ON")
    return connection


def _uri_parameters(path: Path) -> str:
    """Return the URI parameters for reading without changing an existing index of the WAL."""
    return "" if is_empty(wal_of(path)) or not wal_index_of(path).exists() else "&readonly_shm=1"


@contextmanager
def _deleting_new_files(path: Path) -> Iterator[None]:
    """Delete a WAL and index that SQLite creates in the block, unless another process uses it."""
    created = [file for file in (wal_of(path), wal_index_of(path)) if not file.exists()]
    try:
        yield
    finally:
        if created:
            _delete_unused(path, created)


def _delete_unused(path: Path, files: list[Path]) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return  # SQLite could not create files either
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, SHARED_SIZE, SHARED_FIRST)
        for file in files:
            # A server that was started and killed in the meantime has left a WAL with data.
            if file != wal_of(path) or is_empty(file):
                file.unlink(missing_ok=True)
    except OSError:
        return  # another process uses them
    finally:
        os.close(descriptor)
