"""One SQLite database: connecting, migration, and translation of errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poussetaches.core.errors import CannotOpenStore, StoreFull, StoreUnavailable
from poussetaches.store.advice import cannot_be_opened
from poussetaches.store.atomic_file import open_private
from poussetaches.store.sqlite.commit_number import (
    format_of,
    is_numbered,
    number_commit,
    read_version,
    renumber,
)
from poussetaches.store.sqlite.damage_check import DAMAGED, Depth, find_damage, is_damage
from poussetaches.store.sqlite.file_length import missing_pages
from poussetaches.store.sqlite.migration import APPLICATION_ID, migrate
from poussetaches.store.sqlite.read_only import connect_query_only
from poussetaches.store.sqlite.reserve import MARGIN, RESERVE, free_bytes, in_mib
from poussetaches.store.sqlite.wal import is_empty, wal_index_of, wal_of
from poussetaches.store.sqlite.wal_owner import files_problem
from poussetaches.store.statements import load_migrations

OLDEST_SQLITE = (3, 38)  # the first that always has JSON functions and STRICT tables
CACHE_KIB = 16_384
# The WAL is truncated to this size after a burst; SQLite would never shrink it by default.
WAL_LIMIT = 64 * 1024 * 1024

REPAIR = (
    "copy its folder, see what can still be read with `poussetaches verify`, then move it "
    "and its WAL to another folder, and put a backup in its place; without a backup, "
    "`poussetaches export --salvage` and `poussetaches import` move the rest to a new folder"
)
UNCHANGED = f"it was not changed: {REPAIR}"

LOCKED = (
    "it is locked: stop the program that has it open; if there is none, its file system does not "
    "support locks: choose a folder on a local disk with --data-dir"
)

IOERR_SHMSIZE = sqlite3.SQLITE_IOERR | 19 << 8  # the WAL's index could not be made larger
LITTLE_ROOM = 1024 * 1024  # bytes; the index grows by 32 KiB at a time

Commit = Callable[[sqlite3.Connection], None]


class DamagedDatabase(CannotOpenStore):
    """The database is damaged."""


def commit(connection: sqlite3.Connection) -> None:
    """Make the open transaction durable."""
    connection.execute("COMMIT")


def connect(path: Path | None, *, must_exist: bool = False) -> sqlite3.Connection:
    """Open the database for writing; for None, create one in memory."""
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if not must_exist and not path.exists():
        # SQLite would leave the file's mode to the umask; it gives WAL and index the same mode.
        with suppress(FileNotFoundError):  # without its folder, SQLite raises the error
            os.close(open_private(path, os.O_RDWR))
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the database read-only; neither connection waits for the other."""
    connection = connect_query_only(path)
    try:
        # In memory, as for the writer: a full temporary disk must not affect the store.
        connection.execute("PRAGMA temp_store = MEMORY")
        # The first read takes a lock that the connection holds, so that it can close last.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, *, must_exist: bool) -> None:
    """Bring the schema up to date and configure durability.

    Raises:
        CannotOpenStore: the database is damaged, or from a newer version.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise CannotOpenStore(
            f"SQLite {sqlite3.sqlite_version} is too old; 3.38 or later is required"
        )
    version = format_of(read_version(connection))
    is_ours = _number(connection, "PRAGMA application_id") == APPLICATION_ID
    if not is_ours and _number(connection, "SELECT count(*) FROM sqlite_schema"):
        raise CannotOpenStore("it is another program's database; use another folder")
    if must_exist and not is_ours:
        raise CannotOpenStore("it has become empty; put a backup in its place")
    migrations = load_migrations("sqlite")
    newest = migrations[-1][0]
    if version > newest:
        raise CannotOpenStore(
            f"it was written by a newer version of poussetaches (format {version}; this version "
            f"knows up to {newest}); install that version, or use another folder"
        )
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # A response of 201 promises a task on disk: in WAL mode only FULL syncs each commit.
    connection.execute("PRAGMA synchronous = FULL")
    if not is_ours:
        _start_numbering(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    if version < newest:
        _use_disk_for_temporary_files(connection)
    for number, script in migrations:
        if number > version:
            migrate(connection, number, script)
    # Last, so that the older version can still open the database if an upgrade fails.
    _start_numbering(connection)
    if version < newest:
        # With the tables in the file itself, it does not look empty if the WAL is lost.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA temp_store = MEMORY")


def _number(connection: sqlite3.Connection, statement: str) -> int:
    number: int = connection.execute(statement).fetchone()[0]
    return number


def _use_disk_for_temporary_files(connection: sqlite3.Connection) -> None:
    """Place a migration's temporary files, which grow with the database, beside the database."""
    connection.execute("PRAGMA temp_store = FILE")
    file: str = connection.execute("PRAGMA database_list").fetchone()[2]
    if file:
        # Other folders may be read-only or too small.
        folder = str(Path(file).parent).replace("'", "''")
        connection.execute(f"PRAGMA temp_store_directory = '{folder}'")


def _start_numbering(connection: sqlite3.Connection) -> None:
    """Start numbering commits, unless they are numbered already.

    The first number is written to the file, not to the WAL, so that a WAL with numbers never
    belongs to a database without one.
    """
    if is_numbered(read_version(connection)):
        return
    try:
        if _set_journal_mode(connection, "DELETE") == "delete":
            renumber(connection)
            _set_journal_mode(connection, "WAL")
            read_version(connection)  # creates the WAL, which SQLite does at the first read
    except sqlite3.OperationalError as exc:
        # The journal mode cannot change while others read; the next start tries again.
        if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise


def detach_wal(connection: sqlite3.Connection) -> None:
    """Checkpoint the whole WAL into the database's file and delete the WAL.

    Closing the last connection does so too, but ignores errors such as a full disk.

    Raises:
        sqlite3.Error: the file does not hold everything.
    """
    mode = _set_journal_mode(connection, "DELETE")
    if mode != "delete":
        raise sqlite3.OperationalError(f"the WAL could not be emptied (journal mode {mode})")


def _set_journal_mode(connection: sqlite3.Connection, mode: str) -> str:
    """Set the journal mode; return the resulting mode, which may be another."""
    found: str = connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0]
    return found


def commit_nothing(connection: sqlite3.Connection, commit: Commit) -> None:
    """Commit no change, to find out whether a file that is readable is writable, too."""
    connection.execute("BEGIN IMMEDIATE")
    number_commit(connection)
    commit(connection)


@contextmanager
def opening(path: Path | None, *, depth: Depth = Depth.START) -> Iterator[None]:
    """Check a database before the block opens it; translate the errors of both.

    Raises:
        DamagedDatabase: it is damaged.
        CannotOpenStore: it cannot be opened for another reason.
    """
    try:
        if path is not None:
            _check_files(path, depth)
        try:
            yield
        except CannotOpenStore as exc:
            raise CannotOpenStore(f"{path} cannot be opened: {exc}") from exc
    except OSError as exc:
        raise CannotOpenStore(cannot_be_opened(exc, path)) from exc
    except sqlite3.Error as exc:
        if is_damage(exc):
            raise _damaged(path, str(exc)) from exc
        raise CannotOpenStore(_why_not_opened(exc, path)) from exc


def _why_not_opened(exc: sqlite3.Error, path: Path | None) -> str:
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_BUSY:
        return f"{path} cannot be opened: {LOCKED}"
    if isinstance(translated(exc, path), StoreFull):
        return f"{path} cannot be opened: {_full(path)}"
    refusal = None if path is None else _refusal_of_system(path)
    return (
        f"{path} cannot be opened: {exc}" if refusal is None else cannot_be_opened(refusal, path)
    )


def _refusal_of_system(path: Path) -> OSError | None:
    """Return the system's error for opening the files of a closed database; SQLite hides it."""
    opened = []
    try:
        for each in (path, wal_of(path), wal_index_of(path)):
            with suppress(FileNotFoundError):
                opened.append(os.open(each, os.O_RDWR))
    except OSError as exc:
        return exc
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return None


def _damaged(path: Path | None, found: str) -> DamagedDatabase:
    return DamagedDatabase(f"{path} is damaged ({found}); {UNCHANGED}")


def _full(path: Path | None) -> str:
    room = "" if path is None else f" ({in_mib(free_bytes(path.parent))} free)"
    return (
        f"the disk is full{room}; the database was not changed: free {in_mib(RESERVE + MARGIN)}, "
        "and three times the size of the database if it was written by an older version, then "
        "start again"
    )


def _check_files(path: Path, depth: Depth) -> None:
    """Refuse files that SQLite would damage, before anything is written to them."""
    if path.exists() and not path.is_file():
        raise CannotOpenStore(f"{path} cannot be opened: it is not a regular file")
    problem = files_problem(path)
    if problem is not None:
        raise CannotOpenStore(f"{path} cannot be opened: {problem}")
    if not is_empty(path):
        if absent := missing_pages(path):
            raise _damaged(path, f"{absent} pages are missing")
        if found := find_damage(path, depth):
            raise _damaged(path, found)
        return
    # A new database is empty, too, but the reserve is created after its tables.
    if path.exists() and path.with_name("reserve").exists():
        raise CannotOpenStore(f"{path} cannot be opened: it has become empty; {UNCHANGED}")


def translated(exc: sqlite3.Error, path: Path | None = None) -> StoreUnavailable | None:
    """Translate an error that makes the store unavailable; return None for any other error.

    ``path`` is the database; the free space of its disk distinguishes a full from a failing one.
    """
    extended = getattr(exc, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if code == sqlite3.SQLITE_FULL or (extended == IOERR_SHMSIZE and _has_little_room(path)):
        return StoreFull()
    troubles = (
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
    )
    if code in DAMAGED:
        return StoreUnavailable(
            f"{path or 'the database'} is damaged ({exc}), and no longer written to; stop the "
            f"server, {REPAIR}"
        )
    if code in troubles:
        return StoreUnavailable(f"the store cannot be used at the moment: {exc}")
    return None


def _has_little_room(path: Path | None) -> bool:
    """Return whether the disk has little free space; False if that is unknown."""
    if path is None:
        return False
    try:
        return free_bytes(path.parent) < LITTLE_ROOM
    except OSError:
        return False
