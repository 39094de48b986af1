"""Commit numbers in the database's header, which show whether a WAL belongs to the file.

The header's ``user_version`` holds the format and the number together::

    bit 30      1 if commits are numbered; otherwise the value is the format, as in version 1.0.0
    bits 24-29  the format
    bits 0-23   the number of the last commit; the first is random, each later one is 1 more

See docs/decisions/0026-numbered-commits.md.
"""

from __future__ import annotations

import secrets
import sqlite3

NUMBERED = 1 << 30
FORMAT_SHIFT = 24
FORMAT_MASK = 0x3F
NUMBER_MASK = 0xFFFFFF


def is_numbered(user_version: int) -> bool:
    """Return whether commits are numbered."""
    return user_version & NUMBERED != 0


def format_of(user_version: int) -> int:
    """Return the format of a database."""
    if not is_numbered(user_version):
        return user_version
    return user_version >> FORMAT_SHIFT & FORMAT_MASK


def next_version(user_version: int, *, format: int | None = None) -> int:
    """Return the value for the next commit, which may change the format."""
    kept = format_of(user_version) if format is None else format
    if not is_numbered(user_version):
        return kept
    return NUMBERED | kept << FORMAT_SHIFT | (user_version + 1) & NUMBER_MASK


def follows(user_version: int, earlier: int) -> bool:
    """Return whether a WAL that begins with one commit continues a file that ends with another."""
    # The number is the same if another program, such as the sqlite3 shell, wrote the first.
    distance = (user_version - earlier) & NUMBER_MASK
    return is_numbered(user_version) and is_numbered(earlier) and distance in (0, 1)


def read_version(connection: sqlite3.Connection) -> int:
    """Return the format and number of a database."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def number_commit(connection: sqlite3.Connection, *, format: int | None = None) -> None:
    """Give the open transaction its number, if commits are numbered; it may change the format."""
    version = next_version(read_version(connection), format=format)
    connection.execute(f"PRAGMA user_version = {version}")


def renumber(connection: sqlite3.Connection) -> None:
    """Restart the numbers of a database, so that it is continued by no existing WAL."""
    version = NUMBERED | format_of(read_version(connection)) << FORMAT_SHIFT
    connection.execute(f"PRAGMA user_version = {version | secrets.randbits(FORMAT_SHIFT)}")
