"""The damage check of a database before it is opened for writing; it changes no file.

See docs/decisions/0048-damage.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from poussetaches.store.sqlite.read_only import connect_read_only
from poussetaches.store.sqlite.wal import is_empty, journal_of

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# Up to this size, the whole database is checked at the start: 0.1 s, or half a second from disk.
SMALL = 32 * 1024 * 1024  # bytes
CHUNK = 1024 * 1024  # bytes
# These tables and their indexes grow with the number of tasks. All other tables are small.
LARGE_TABLES = frozenset({"tasks", "attempts", "labels", "keys", "minutes", "unreadable"})

_TREES = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema WHERE rootpage > 0"


class Depth(Enum):
    """How much of a database is checked."""

    START = "a small database as a whole; of a large one, the small tables and each tree's edge"
    STRUCTURE = "quick_check: every page, but not that indexes match their tables"
    CONTENT = "integrity_check"


def is_damage(exc: Exception | None) -> bool:
    """Return whether SQLite raised an error because of damage."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def find_damage(path: Path, depth: Depth) -> str | None:
    """Return the first damage found in a database and its WAL; None if there is none.

    Other errors are raised when the database is opened.
    """
    if not is_empty(journal_of(path)):
        return None  # only rolling it back, which writes, completes the database
    is_small = path.stat().st_size <= SMALL
    if is_small:
        _load(path)
    try:
        with connect_read_only(path) as connection:
            is_whole = is_small and depth is Depth.START
            found = next(_findings(connection, Depth.CONTENT if is_whole else depth), None)
    except sqlite3.Error as exc:
        return str(exc) if is_damage(exc) else None
    return found


def files_stamp(paths: list[Path]) -> tuple[tuple[int, ...], ...]:
    """Return a value that changes when one of the files is written to or replaced."""
    return tuple(_stamp(path) for path in paths)


def _load(path: Path) -> None:
    """Read a file into the system's cache: SQLite reads single pages, five times slower."""
    with path.open("rb", buffering=0) as file:
        while file.read(CHUNK):
            pass


def _findings(connection: sqlite3.Connection, depth: Depth) -> Iterator[str]:
    connection.execute("BEGIN")  # otherwise each statement would read the whole WAL again
    if depth is Depth.STRUCTURE:
        yield from _checked(connection, "PRAGMA quick_check(1)")
    elif depth is Depth.CONTENT:
        yield from _checked(connection, "PRAGMA integrity_check(1)")
    else:
        for kind, name, table, sql in connection.execute(_TREES).fetchall():
            if table in LARGE_TABLES:
                connection.execute(_first_entry(kind, name, table, sql)).fetchone()
            elif kind == "table":
                yield from _checked(connection, f"PRAGMA quick_check({_quoted(name)})")


def _checked(connection: sqlite3.Connection, check: str) -> Iterator[str]:
    for (text,) in connection.execute(check):
        yield from (
            line for line in str(text).splitlines() if line != "ok" and not line.startswith("***")
        )


def _first_entry(kind: str, name: str, table: str, sql: str) -> str:
    """Return a query that reads the pages from the root of a table or index to its first entry."""
    if kind == "table":
        return f"SELECT 1 FROM {_quoted(table)} NOT INDEXED LIMIT 1"  # noqa: S608 - of the schema
    _, where, condition = " ".join(sql.split()).partition(" WHERE ")
    source = f"{_quoted(table)} INDEXED BY {_quoted(name)}"
    return f"SELECT 1 FROM {source}{where}{condition} LIMIT 1"  # noqa: S608 - of the schema


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
