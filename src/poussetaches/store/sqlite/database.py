"""One SQLite database: connecting, migrating, and its errors in our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from poussetaches.core.errors import CannotOpenStore, StoreFull, StoreUnavailable
from poussetaches.store.sqlite.extent import missing_pages
from poussetaches.store.sqlite.upgrade import STEPS
from poussetaches.store.statements import load_migrations

OLDEST_SQLITE = (3, 38)  # the first with JSON functions and STRICT tables for certain
CACHE_KIB = 16_384
APPLICATION_ID = 0x706F7573  # "pous": tells our databases from those of other programs
# The log is cut back to this after a burst; SQLite alone would never make it smaller.
WAL_LIMIT = 64 * 1024 * 1024

LEFT = (
    "it was left as it is: see what can still be read with `poussetaches verify`, put a backup in "
    "its place, or move it away to start empty"
)

FULL = "the disk is full; it was left as it is: make room and start again"
IOERR_SHMSIZE = sqlite3.SQLITE_IOERR | 19 << 8  # what a full disk is called for the log's index

Commit = Callable[[sqlite3.Connection], None]

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def commit(connection: sqlite3.Connection) -> None:
    """Make the open transaction durable."""
    connection.execute("COMMIT")


def connect(path: Path | None, *, must_exist: bool = False) -> sqlite3.Connection:
    """Open the database for writing; ``None`` is one in memory."""
    if path is None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    else:
        mode = "rw" if must_exist else "rwc"
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the database for reading alone: it neither waits for a writer nor holds one up."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA busy_timeout = 5000")
    # In memory, as the writer's: another disk that is full is no trouble of the store's.
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def prepare(connection: sqlite3.Connection, *, must_exist: bool) -> None:
    """Bring the schema up to date and set what durability needs.

    Raises:
        CannotOpenStore: the database is damaged, or from a newer version.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise CannotOpenStore(
            f"SQLite {sqlite3.sqlite_version} is too old: 3.38 or later is needed"
        )
    version = _number(connection, "PRAGMA user_version")
    is_ours = _number(connection, "PRAGMA application_id") == APPLICATION_ID
    if not is_ours and _number(connection, "SELECT count(*) FROM sqlite_schema"):
        raise CannotOpenStore("it is another program's database; use another folder")
    if must_exist and not is_ours:
        raise CannotOpenStore("it has become empty; put a backup in its place")
    migrations = load_migrations("sqlite")
    newest = migrations[-1][0]
    if version > newest:
        raise CannotOpenStore(
            f"it was written by a newer poussetaches (format {version}; this one knows up to "
            f"{newest}); install that version, or use another folder"
        )
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    # An answer of 201 means on disk: in WAL mode only FULL syncs each commit.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    if version < newest:
        _use_disk_for_temporary_files(connection)
    for number, script in migrations:
        if number > version:
            _migrate(connection, number, script)
    connection.execute("PRAGMA temp_store = MEMORY")


def _number(connection: sqlite3.Connection, statement: str) -> int:
    number: int = connection.execute(statement).fetchone()[0]
    return number


def _use_disk_for_temporary_files(connection: sqlite3.Connection) -> None:
    """Have what a migration puts aside, which grows with the database, lie beside it."""
    connection.execute("PRAGMA temp_store = FILE")
    file: str = connection.execute("PRAGMA database_list").fetchone()[2]
    if file:
        # Nowhere else can be counted on to be writable, or to have the room.
        folder = str(Path(file).parent).replace("'", "''")
        connection.execute(f"PRAGMA temp_store_directory = '{folder}'")


def _migrate(connection: sqlite3.Connection, number: int, script: str) -> None:
    try:
        connection.executescript(f"BEGIN;\n{script}")
        complete = STEPS.get(number)
        if complete is not None:
            complete(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def write_in_vain(connection: sqlite3.Connection, commit: Commit) -> None:
    """Commit something that changes nothing: a file may be readable, and writable no more."""
    connection.execute("BEGIN IMMEDIATE")
    version = _number(connection, "PRAGMA user_version")
    connection.execute(f"PRAGMA user_version = {version}")
    commit(connection)


@contextmanager
def opening(path: Path | None) -> Iterator[None]:
    """Say what is wrong with a database that cannot be opened, and what to do."""
    if path is not None:
        _check_is_whole(path)
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGED:
            raise CannotOpenStore(f"{path} is damaged ({exc}); {LEFT}") from exc
        if isinstance(translated(exc), StoreFull):
            raise CannotOpenStore(f"{path} cannot be opened: {FULL}") from exc
        raise CannotOpenStore(f"{path} cannot be opened: {exc}") from exc
    except CannotOpenStore as exc:
        raise CannotOpenStore(f"{path} cannot be opened: {exc}") from exc


def _check_is_whole(path: Path) -> None:
    """Refuse a file that lost its end, before anything is written to it."""
    absent = missing_pages(path) if path.exists() else 0
    if absent:
        raise CannotOpenStore(f"{path} is damaged ({absent} pages are missing); {LEFT}")
    if path.exists() and path.stat().st_size:
        return
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:  # SQLite would delete it
        raise CannotOpenStore(
            f"{path} cannot be opened: it is empty or missing, but its log is there; put it back "
            f"beside {log.name}, or move that away as well to start empty"
        )
    # A new database is empty, too, but the reserve is made after its tables.
    if path.exists() and path.with_name("reserve").exists():
        raise CannotOpenStore(f"{path} cannot be opened: it has become empty; {LEFT}")


def translated(exc: sqlite3.Error) -> StoreUnavailable | None:
    """Return an error that is the store's trouble in our words; None for any other."""
    extended = getattr(exc, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if code == sqlite3.SQLITE_FULL or extended == IOERR_SHMSIZE:
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
        *_DAMAGED,
    )
    if code in troubles:
        return StoreUnavailable(f"the store cannot be used at the moment: {exc}")
    return None
