"""Looking into a store without changing a byte of it, whether its server runs or not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from poussetaches.core.errors import CannotOpenStore
from poussetaches.store.folder import DataFolder
from poussetaches.store.sqlite.extent import missing_pages
from poussetaches.store.sqlite.log_owner import FilesProblem, files_problem, orphan_problem
from poussetaches.store.sqlite.wal import is_empty

WAIT = 5000  # milliseconds for a server that holds the database for a moment


class Look(NamedTuple):
    """A connection that cannot write, and what is known of the files."""

    connection: sqlite3.Connection
    in_use: bool  # by a server
    missing_pages: int
    problem: FilesProblem | None  # for which the log was not read


@contextmanager
def looking(
    folder: DataFolder, *, salvage: bool = False, skip_unrelated_log: bool = False
) -> Iterator[Look]:
    """Open a folder's database for reading; no server can start meanwhile.

    ``salvage`` reads what there is of a file that is shorter than it should be.

    Raises:
        CannotOpenStore: there is none, it cannot be read, or its log belongs to another.
        sqlite3.DatabaseError: pages are missing.
    """
    path = folder.database
    with folder.kept_from_servers() as alone:
        # Before SQLite opens the files: to close a file releases the locks that the process has
        # on it.
        problem, absent = _check_files(path, alone=alone, skip_unrelated_log=skip_unrelated_log)
        if absent and not salvage:
            raise sqlite3.DatabaseError(f"{absent} pages are missing")
        means = "&immutable=1" if problem is not None else _means(path) if alone else ""
        with (
            _leaving_no_index(path, alone=alone),
            closing(_connect(path, means)) as connection,
        ):
            connection.execute(f"PRAGMA busy_timeout = {WAIT}")
            connection.execute("PRAGMA query_only = ON")
            if absent:
                connection.execute("PRAGMA writable_schema = ON")
            yield Look(connection, not alone, absent, problem)


def _check_files(
    path: Path, *, alone: bool, skip_unrelated_log: bool
) -> tuple[FilesProblem | None, int]:
    """Return whether the log belongs to another database, and how many pages are missing."""
    try:
        # While a server works, its file and log change between one reading and the next.
        problem = files_problem(path) if alone else orphan_problem(path)
        if problem is not None and (is_empty(path) or not skip_unrelated_log):
            raise CannotOpenStore(f"{path} cannot be read: {problem}")
        return problem, missing_pages(path, with_log=problem is None)
    except OSError as exc:
        raise CannotOpenStore(f"{path} cannot be read: {exc.strerror}") from exc


def _connect(path: Path, means: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro{means}",
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
