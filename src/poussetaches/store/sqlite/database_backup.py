"""Backup of a database, also while its server writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from poussetaches.core.errors import CannotOpenStore
from poussetaches.store.folder import DataFolder
from poussetaches.store.progress_callback import ProgressCallback
from poussetaches.store.sqlite.commit_number import is_numbered, read_version, renumber
from poussetaches.store.sqlite.database import detach_wal
from poussetaches.store.sqlite.read_only import open_read_only

PAGES = 2048  # copied between two progress reports


def back_up(folder: DataFolder, target: Path, progress: ProgressCallback) -> int:
    """Copy the current state of a folder's database to an empty file; return its size in bytes.

    Raises:
        CannotOpenStore: there is none, or it is damaged.
    """
    try:
        with open_read_only(folder) as source, closing(_empty(target)) as copy:
            # In a transaction: otherwise each write of the server would restart the copy.
            source.connection.backup(
                copy,
                pages=PAGES,
                progress=lambda _, left, all: progress("copying pages", all - left, all),
            )
            progress("checking the copy", 0, None)
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            detach_wal(copy)
            if is_numbered(read_version(copy)):  # otherwise version 1.0.0 can still open it
                renumber(copy)
    except sqlite3.OperationalError as exc:
        raise CannotOpenStore(f"{folder.database} cannot be backed up: {exc}") from exc
    except sqlite3.DatabaseError as exc:
        raise CannotOpenStore(
            f"{folder.database} is damaged ({exc}) and was not backed up; run `poussetaches "
            f"verify {folder.path}` to see what can still be read"
        ) from exc
    return target.stat().st_size


def _empty(target: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(target, isolation_level=None)
    # The file is synced once it is complete; an incomplete file is deleted.
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = OFF")
    # The copy is in WAL mode, as the original is: in normal mode its check would create files.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection
