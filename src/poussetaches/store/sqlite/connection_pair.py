"""The two SQLite connections to one database: opening, commits, recovery and closing.

Every method runs in the thread that writes, except ``disconnect_reader``.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import suppress
from pathlib import Path

from poussetaches.core.errors import (
    OutcomeUnknown,
    PousseTachesError,
    StoreFull,
    StoreUnavailable,
)
from poussetaches.store.base import StoreTrouble
from poussetaches.store.sqlite import database
from poussetaches.store.sqlite.commit_number import number_commit
from poussetaches.store.sqlite.damage_check import Depth, files_stamp
from poussetaches.store.sqlite.file_identity import FileIdentity
from poussetaches.store.sqlite.trouble_record import TroubleRecord
from poussetaches.store.sqlite.wal import is_empty, wal_of

SHRINK_PAGES = 2000  # returned to the file system in a row, in SHRINK_STEPS transactions
SHRINK_STEPS = 400  # a page takes up to 2 ms: SQLite searches the list of free pages for it

# Errors of a commit whose last frame was not written to the WAL. After any other error the frame
# may be there, and is then replayed when the database is opened again.
UNDONE = (
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
    sqlite3.SQLITE_IOERR_WRITE,
)

log = logging.getLogger(__name__)


class ConnectionPair:
    """One connection that writes and one that reads; in memory they are the same."""

    def __init__(
        self, path: Path | None, trouble: TroubleRecord, *, commit: database.Commit
    ) -> None:
        self.writing: sqlite3.Connection | None = None
        self.reading: sqlite3.Connection | None = None
        self._path = path
        self._trouble = trouble
        self._commit = commit
        self._identity = None if path is None else FileIdentity(path)
        self._damage_stamp: object = None  # of the files in which damage was found

    def connect(self, *, must_exist: bool, depth: Depth = Depth.START) -> None:
        """Check and open the database, and bring its schema up to date."""
        with database.opening(self._path, depth=depth):
            self._trouble.release_reserve_if_needed()
            connection = database.connect(self._path, must_exist=must_exist)
            try:
                database.prepare(connection, must_exist=must_exist)
                if self._path is None:
                    self.reading = connection
                else:
                    self.reading = database.connect_reader(self._path)
                if self._identity is not None:
                    self._identity.remember()
            except BaseException:
                connection.close()
                raise
        self.writing = connection

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commit; the error shows whether the changes may be on disk.

        Raises:
            OutcomeUnknown: they may be.
            StoreUnavailable: they are not.
        """
        # Every commit pays for these checks, and each releases the interpreter's lock: only two.
        if self._identity is not None:
            self._trouble.run_check(self._identity.check_wal)
        try:
            self._commit(connection)
        except sqlite3.Error as exc:
            trouble = self._trouble.error_of(exc)
            if trouble is None:
                raise
            if getattr(exc, "sqlite_errorcode", 0) in UNDONE:
                raise trouble from exc
            raise _outcome_unknown(trouble) from exc
        if self._identity is not None:
            try:
                # After the commit: what is acknowledged must be where the next start reads it.
                self._trouble.run_check(self._identity.check_file)
            except StoreUnavailable as exc:
                raise _outcome_unknown(exc) from exc

    def check_file_exists(self) -> None:
        """Check that the database is where it was.

        Raises:
            StoreUnavailable: it is gone, or there is another.
        """
        if self._identity is not None:
            self._identity.check_is_there()

    def make_room(self) -> None:
        """Checkpoint the WAL into the database so that it takes no room, then claim the reserve.

        Raises:
            StoreFull: there is still not enough room.
        """
        if self._path is not None and self.writing is not None:
            if self._identity is not None:
                self._trouble.run_check(self._identity.check_wal)
                self._identity.allow_shrinking()
            with suppress(sqlite3.Error):
                self.writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            self._trouble.claim_reserve()
        except StoreFull as exc:
            raise self._trouble.note_full() from exc

    def commit_nothing(self) -> None:
        """Commit no change: a disk with free space may still not be writable."""
        assert self.writing is not None
        try:
            database.commit_nothing(self.writing, self.commit)
        except BaseException:
            if self.writing.in_transaction:
                self.writing.execute("ROLLBACK")
            raise

    def release_pages(self) -> bool:
        """Return some free pages to the file system; return whether there were any."""
        trouble = self._trouble.current
        if self.writing is None or (trouble is not None and not trouble.full):
            return False
        if self._identity is not None:
            self._trouble.run_check(self._identity.check_wal)
            self._identity.allow_shrinking()
        try:
            if not self.writing.execute("PRAGMA freelist_count").fetchone()[0]:
                return False
            # A script, since ``execute`` stops after the first step, which is one page.
            pages = SHRINK_PAGES // SHRINK_STEPS
            self.writing.executescript(f"BEGIN IMMEDIATE; PRAGMA incremental_vacuum({pages});")
            number_commit(self.writing)
            self.writing.execute("COMMIT")
        except (sqlite3.Error, MemoryError) as exc:
            with suppress(sqlite3.Error):  # recovery then opens a new connection
                if self.writing.in_transaction:
                    self.writing.execute("ROLLBACK")
            raise self._trouble.error_of(exc) or exc from exc
        return True

    def reconnect(self) -> None:
        """Open the existing database again, and check that it is whole and writable.

        Raises:
            StoreUnavailable: it is not.
        """
        assert self._identity is not None and self._path is not None
        trouble = self._trouble.current
        assert trouble is not None
        stamp = files_stamp([self._path, wal_of(self._path)])
        if stamp == self._damage_stamp:  # a check takes seconds: only repeat it after a change
            raise StoreUnavailable(trouble.reason)
        self._identity.close_index()
        try:
            depth = Depth.CONTENT if trouble.damaged else Depth.STRUCTURE
            self.connect(must_exist=True, depth=depth)
            assert self.writing is not None
            database.commit_nothing(self.writing, self.commit)
        except (sqlite3.Error, OSError, MemoryError, PousseTachesError) as exc:
            self.disconnect_writer()
            if isinstance(exc, database.DamagedDatabase):
                self._damage_stamp = stamp
                self._trouble.current = StoreTrouble(str(exc), full=False, damaged=True)
                log.error("database is damaged", extra={"error": str(exc)})
            raise StoreUnavailable(str(exc)) from exc
        except BaseException:  # a bug, which the dispatcher's loop logs and counts
            self.disconnect_writer()
            raise

    def must_keep_wal(self) -> bool:
        """Return whether checkpointing the WAL would corrupt the database, or hide its damage."""
        trouble = self._trouble.current
        is_damaged = trouble is not None and trouble.damaged
        return is_damaged or (self._identity is not None and self._identity.is_cut_short())

    def disconnect_reader(self) -> None:
        """Close the connection that reads; its own thread calls this."""
        connection, self.reading = self.reading, None
        if connection is not None and connection is not self.writing:
            with suppress(sqlite3.Error):
                connection.close()

    def disconnect_writer(self) -> None:
        """Close the connection that writes."""
        connection, self.writing = self.writing, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def report_remaining_wal(self) -> None:
        """Log if closing did not checkpoint the WAL into the file, as on a full disk."""
        if self._path is None:
            return
        wal = wal_of(self._path)
        with suppress(OSError):  # a failing disk must not keep the store from stopping
            if not is_empty(wal):
                log.warning(
                    "the database's WAL could not be emptied: it is part of the data",
                    extra={"wal": str(wal)},
                )

    def close_files(self) -> None:
        """Close the files that were kept open to recognize them, after both connections."""
        if self._identity is not None:
            self._identity.close()


def _outcome_unknown(exc: Exception) -> OutcomeUnknown:
    return OutcomeUnknown(f"the change may or may not have been made: {exc}")
