"""Export of a whole database, and import into a new one."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from random import Random
from typing import BinaryIO

from poussetaches.core.errors import CannotOpenStore, CannotReadExport, CannotWriteFile
from poussetaches.core.moment import Moment
from poussetaches.store.export_format import Header, lines_of, read_header, read_records
from poussetaches.store.export_records import Record, TaskRecord
from poussetaches.store.folder import DataFolder
from poussetaches.store.progress_callback import ProgressCallback
from poussetaches.store.runner import ThreadRunner
from poussetaches.store.sqlite.commit_number import format_of, read_version
from poussetaches.store.sqlite.database import connect, detach_wal
from poussetaches.store.sqlite.read_only import open_read_only
from poussetaches.store.sqlite.record_rows import records_of
from poussetaches.store.sqlite.row_reader import Reading
from poussetaches.store.sqlite.rows import COLUMNS
from poussetaches.store.sqlite.store import SqliteStore
from poussetaches.store.statements import load_migrations, load_statements

BATCH = 200  # records in one transaction
SHOW = 500  # tasks between two progress reports

log = logging.getLogger(__name__)


def export(
    folder: DataFolder,
    write: Callable[[bytes], object],
    progress: ProgressCallback,
    *,
    now: Moment,
    salvage: bool = False,
) -> int:
    """Export the store of a folder, which may be in use; return the number of tasks.

    Raises:
        CannotOpenStore: there is none, or it is damaged and ``salvage`` is false.
    """
    try:
        with open_read_only(folder, salvage=salvage) as source:
            reading = Reading(
                source.connection, load_statements("sqlite.sql", COLUMNS), lambda _: False
            )
            _check_format(folder, source.connection)
            expected = reading.number("expected_tasks")
            records = records_of(reading, source.connection, now, salvage=salvage)
            counted = _Counted(records, progress, expected)
            for line in lines_of(Header(exported_at=now, tasks=expected), counted):
                write(line)
            return counted.tasks
    except sqlite3.DatabaseError as exc:
        raise CannotOpenStore(
            f"{folder.database} cannot be exported: {exc}; run `poussetaches verify "
            f"{folder.path}` to see what can still be read, and export it with --salvage"
        ) from exc


def _check_format(folder: DataFolder, connection: sqlite3.Connection) -> None:
    newest = load_migrations("sqlite")[-1][0]
    if (found := format_of(read_version(connection))) != newest:
        raise CannotOpenStore(
            f"{folder.database} has format {found}, but this version exports {newest}; start a "
            "server of the latest version on it once"
        )


class _Counted:
    """An iterable of records that counts the tasks and reports progress."""

    def __init__(
        self, records: Iterator[Record], progress: ProgressCallback, expected: int
    ) -> None:
        self.tasks = 0
        self._records = records
        self._progress = progress
        self._expected = expected

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            if isinstance(record, TaskRecord):
                self.tasks += 1
                if self.tasks % SHOW == 0:
                    self._progress("exporting tasks", self.tasks, self._expected)
            yield record


async def import_into(
    target: Path,
    file: BinaryIO,
    progress: ProgressCallback,
    *,
    now: Callable[[], Moment],
    random: Random,
) -> int:
    """Make a new database of an export, complete in one file; return how many tasks it has.

    Raises:
        CannotReadExport: it cannot be read; what was made by then is of no use.
        CannotWriteFile: the database cannot be completed.
    """
    header = read_header(file)
    store = SqliteStore(
        target,
        writer=ThreadRunner("import-writer"),
        reader=ThreadRunner("import-reader"),
        now=now,
        random=random,
    )
    await store.open()
    try:
        count = 0
        numbered = read_records(file)
        while batch := list(islice(numbered, BATCH)):
            await _put(store, batch)
            count += sum(isinstance(record, TaskRecord) for _, record in batch)
            progress("importing tasks", count, header.tasks)
        if store.unreadable_count:
            log.error(
                "%d records could not be stored; they are kept in the table unreadable, which "
                "`poussetaches verify` shows",
                store.unreadable_count,
            )
    finally:
        await store.close()
    progress("checking the database", 0, None)
    _complete(target)
    return count


def _complete(target: Path) -> None:
    """Bring a closed database into one file, and check that it is whole."""
    try:
        with closing(connect(target, must_exist=True)) as connection:
            detach_wal(connection)
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
    except sqlite3.Error as exc:
        raise CannotWriteFile(
            f"the imported database cannot be completed: {exc}; nothing was imported"
        ) from exc


async def _put(store: SqliteStore, batch: list[tuple[int, Record]]) -> None:
    known = await store.put_records([record for _, record in batch])
    if known is not None:
        number, record = batch[known]
        assert isinstance(record, TaskRecord)
        raise CannotReadExport(f"line {number}: the id {record.task.id!r} appears twice")
