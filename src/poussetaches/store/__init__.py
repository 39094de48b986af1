"""The store of tasks: opening, verification, backup, export and import."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import BinaryIO

from poussetaches.core.errors import CannotOpenStore, CannotWriteFile
from poussetaches.core.moment import Moment
from poussetaches.store.advice import cannot_be_opened
from poussetaches.store.atomic_file import atomic_file, rename_durably
from poussetaches.store.base import Store
from poussetaches.store.folder import DataFolder
from poussetaches.store.progress_callback import ProgressCallback
from poussetaches.store.runner import InlineRunner, ThreadRunner
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.database_backup import back_up
from poussetaches.store.sqlite.database_export import export as export_store
from poussetaches.store.sqlite.database_export import import_into
from poussetaches.store.sqlite.database_verification import verify as verify_store
from poussetaches.store.sqlite.reserve import Reserve
from poussetaches.store.sqlite.wal import files_of
from poussetaches.store.sqlite.wal_owner import check_no_wal_remains

__all__ = [
    "back_up_store",
    "export_store",
    "import_store",
    "open_memory_store",
    "open_store",
    "verify_store",
]


async def open_store(
    folder: DataFolder, *, now: Callable[[], Moment], random: Random, window: float
) -> Store:
    """Open the store in a locked folder; ``window`` is the commit window in seconds.

    Raises:
        CannotOpenStore: it is damaged, from a newer version, or not writable.
    """
    try:
        store = SqliteStore(
            folder.database,
            writer=ThreadRunner("store-writer"),
            reader=ThreadRunner("store-reader"),
            now=now,
            random=random,
            window=window,
            reserve=Reserve(folder.reserve),
        )
        await store.open()
    except OSError as exc:  # also for a file of this package
        raise CannotOpenStore(cannot_be_opened(exc, folder.database)) from exc
    return store


async def open_memory_store(*, now: Callable[[], Moment], random: Random) -> Store:
    """Open a store in memory; closing it deletes the tasks."""
    runner = InlineRunner()  # no operation waits for a disk
    store = SqliteStore(None, writer=runner, reader=runner, now=now, random=random)
    await store.open()
    return store


def back_up_store(
    folder: DataFolder, target: Path, progress: ProgressCallback, *, replace: bool
) -> int:
    """Copy the store of a folder, which may be in use, to a file; return the size in bytes.

    Raises:
        CannotOpenStore: there is none, or it is damaged.
        CannotWriteFile: the file exists already, has a WAL beside it, belongs to the folder, or
            cannot be written.
    """
    folder.check_not_own(target)
    with atomic_file(target, replace=replace) as beside:
        check_no_wal_remains(target)
        return back_up(folder, beside, progress)


async def import_store(
    folder: DataFolder,
    file: BinaryIO,
    progress: ProgressCallback,
    *,
    now: Callable[[], Moment],
    random: Random,
) -> int:
    """Create the store of a locked folder from an export; return the number of tasks.

    If an error is raised, the folder still has no store.

    Raises:
        CannotOpenStore: there is a store already, or the WAL of one.
        CannotReadExport: the export cannot be read.
        CannotWriteFile: the store cannot be written.
    """
    path = folder.database
    if path.exists():
        raise CannotOpenStore(
            f"{path} already exists; import into an empty folder, or move this file away"
        )
    check_no_wal_remains(path)
    beside = path.with_name("tasks.db.importing")
    for each in files_of(beside):  # left behind by an import that was killed
        each.unlink(missing_ok=True)
    try:
        count = await import_into(beside, file, progress, now=now, random=random)
        rename_durably(beside, path)
    except OSError as exc:
        raise CannotWriteFile(f"{path} cannot be written: {exc.strerror or exc}") from exc
    finally:
        for each in files_of(beside):
            each.unlink(missing_ok=True)
    return count
