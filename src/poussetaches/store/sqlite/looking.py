"""Looking into a store without changing a byte of it, whether its server runs or not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from poussetaches.core.errors import CannotOpenStore
from poussetaches.store.folder import DataFolder

WAIT = 5000  # milliseconds for a server that holds the database for a moment


class Look(NamedTuple):
    """A connection that cannot write, and whether a server uses the store meanwhile."""

    connection: sqlite3.Connection
    in_use: bool


@contextmanager
def looking(folder: DataFolder, *, cut_short: bool = False) -> Iterator[Look]:
    """Open a folder's database for reading; no server can start meanwhile.

    ``cut_short`` reads what there is of a file that is shorter than it should be.

    Raises:
        CannotOpenStore: there is none, or it cannot be read.
    """
    path = folder.database
    try:
        with path.open("rb"):
            pass
    except OSError as exc:
        raise CannotOpenStore(f"{path} cannot be read: {exc.strerror}") from exc
    with (
        folder.kept_from_servers() as alone,
        _leaving_no_index(path, alone=alone),
        closing(connect(path, alone=alone)) as connection,
    ):
        connection.execute(f"PRAGMA busy_timeout = {WAIT}")
        connection.execute("PRAGMA query_only = ON")
        if cut_short:
            connection.execute("PRAGMA writable_schema = ON")
        yield Look(connection, not alone)


def connect(path: Path, *, alone: bool) -> sqlite3.Connection:
    """Open a database for reading; ``alone`` when no other process can have it open."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{_means(path) if alone else ''}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )


@contextmanager
def _leaving_no_index(path: Path, *, alone: bool) -> Iterator[None]:
    """Delete the index of a log that had none: SQLite makes a file for it."""
    index = path.with_name(path.name + "-shm")
    was_there = index.exists()
    try:
        yield
    finally:
        if alone and not was_there:
            index.unlink(missing_ok=True)


def _means(path: Path) -> str:
    """Return how to read without writing: SQLite makes files of its own if it is not told not to.

    With a log, its index is made in memory when the file for it may only be read; without one,
    nothing but the database itself needs to be looked at. A log without its index has been copied
    from elsewhere, and gets one.
    """
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if not log.exists() or not log.stat().st_size:
        return "&immutable=1"
    return "&readonly_shm=1" if index.exists() else ""
