"""Backing up a database, also while its server writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from poussetaches.core.errors import CannotOpenStore
from poussetaches.store.folder import DataFolder
from poussetaches.store.progress_callback import ProgressCallback
from poussetaches.store.sqlite.commit_number import is_numbered, read_version, renumber
from poussetaches.store.sqlite.database import detach_log
from poussetaches.store.sqlite.read_only import open_read_only

PAGES = 2048  # copied between two signs of progress


def back_up(folder: DataFolder, target: Path, progress: ProgressCallback) -> int:
    """Copy a folder's database, as it is now, to a file that is empty; return its bytes.

    Raises:
        CannotOpenStore: there is none, or it is damaged.
    """
    try:
        with open_read_only(folder) as source, closing(_empty(target)) as copy:
            # In its transaction: else each write of the server would have the copying begun anew.
            source.connection.backup(
                copy,
                pages=PAGES,
                progress=lambda _, left, all: progress("copying pages", all - left, all),
            )
            progress("checking the copy", 0, None)
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            detach_log(copy)
            if is_numbered(read_version(copy)):  # else version 1.0.0 may still open it
                renumber(copy)
    except sqlite3.OperationalError as exc:
        raise CannotOpenStore(f"{folder.database} cannot be backed up: {exc}") from exc
    except sqlite3.DatabaseError as exc:
        raise CannotOpenStore(
            f"{folder.database} is damaged ({exc}), and was not backed up: see what can still be "
            f"read with `poussetaches verify {folder.path}`"
        ) from exc
    return target.stat().st_size


def _empty(target: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(target, isolation_level=None)
    # The file is synced as a whole once it is complete, and of no use before.
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = OFF")
    # Else the check of the copy, which is in WAL mode as the original is, makes files beside it.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection
