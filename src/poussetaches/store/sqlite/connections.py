"""The two connections to a database: writing and reading by them, and the way out of trouble."""

from __future__ import annotations

import asyncio
import errno
import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TypeVar

from poussetaches.core.defect import describe_defect, stack_of
from poussetaches.core.errors import (
    OutcomeUnknown,
    PousseTachesError,
    StoreClosed,
    StoreFull,
    StoreUnavailable,
)
from poussetaches.core.moment import Moment
from poussetaches.store.base import Listener, News, StoreTrouble
from poussetaches.store.group_commit import GroupCommit, Write
from poussetaches.store.runner import Runner
from poussetaches.store.sqlite import database
from poussetaches.store.sqlite.cache import Cache
from poussetaches.store.sqlite.commit_number import number_commit
from poussetaches.store.sqlite.damage_check import Depth, files_stamp, is_damage
from poussetaches.store.sqlite.file_identity import FileIdentity
from poussetaches.store.sqlite.isolation import SetAsideCall, set_aside
from poussetaches.store.sqlite.queue_writes import changed_queues, stored_queues
from poussetaches.store.sqlite.reserve import Reserve
from poussetaches.store.sqlite.row_reader import Reading, Unreadable
from poussetaches.store.sqlite.rows import COLUMNS
from poussetaches.store.sqlite.transaction import RowFailure, RowFault, SqliteTransaction
from poussetaches.store.sqlite.wal import is_empty, wal_of
from poussetaches.store.statements import load_statements

I = TypeVar("I")  # noqa: E741 - an item of a write
R = TypeVar("R")

SHRINK_PAGES = 2000  # given back to the disk at a time, in so many transactions
SHRINK_STEPS = 400  # a page takes up to 2 ms: SQLite looks for it in the list of all free ones

# Errors that claiming the reserve raises on a full disk; a missing folder counts as full.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOENT)

# Errors of a commit whose last frame was not written to the log. After any other error the frame
# may be there, and is then replayed when the database is opened again.
UNDONE = (
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
    sqlite3.SQLITE_IOERR_WRITE,
)

log = logging.getLogger(__name__)


class Connections:
    """One connection that writes behind group commit, one that reads; in memory they are one."""

    def __init__(
        self,
        path: Path | None,
        *,
        writer: Runner,
        reader: Runner,
        now: Callable[[], Moment],
        random: Random,
        window: float,
        commit: database.Commit,
        reserve: Reserve | None,
        row_fault: RowFault | None = None,
    ) -> None:
        self.path = path
        self.cache = Cache()
        self.trouble: StoreTrouble | None = None
        self._is_announced = False
        self._damage_stamp: object = None  # of the files in which damage was found
        self.unreadable: set[int] = set()  # tasks that must not be met again
        self.unreadable_count = 0
        self._defect_count = 0
        self.listeners: list[Listener] = []
        self._writer = writer
        self._reader = writer if path is None else reader
        self._now = now
        self._random = random
        self._commit = commit
        self._reserve = reserve
        self._row_fault = row_fault
        self._identity = None if path is None else FileIdentity(path)
        self._group = GroupCommit(
            writer,
            self._begin,
            trouble_of=self._trouble_of,
            announce=self._announce,
            announce_failure=self._announce_trouble,
            window=window,
        )
        self._sql = load_statements("sqlite.sql", COLUMNS)
        self._connection: sqlite3.Connection | None = None
        self._read_connection: sqlite3.Connection | None = None
        self._closed = False

    # Life

    async def open(self) -> None:
        """Connect, bring the schema up to date, and claim the reserve."""
        await self._writer.run(lambda: self._connect(must_exist=False))
        await self._writer.run(self._take_reserve)
        self.cache.queues = await self.look(stored_queues)

    async def close(self) -> None:
        """Commit what was given, and disconnect. May be called twice."""
        if self._closed:
            return
        self._closed = True
        await self._group.settle()
        was_open = self._connection is not None
        await self._disconnect_both()
        if was_open:
            await self._writer.run(self._report_remaining_log)
        await self._writer.run(self._let_go)
        self._writer.close()
        self._reader.close()

    @property
    def internal_error_count(self) -> int:
        """How many internal errors there were since the store was opened."""
        return self._defect_count + self._group.defect_count

    # Writing and reading

    def write(
        self, write: Write[SqliteTransaction, I, R], item: I, *, size: int = 0
    ) -> asyncio.Future[R]:
        """Write one item in a commit that it may share; its result comes once it is on disk.

        Raises:
            StoreBusy: it has a size, in bytes, and too much waits already.
        """
        return self._group.write(write, item, size=size)

    async def look(self, read: Callable[[Reading], R]) -> R:
        """Read by the writing connection, between two transactions: it sees the latest."""
        return await self._read_by(self._writer, lambda: self._connection, read)

    async def read(self, read: Callable[[Reading], R]) -> R:
        """Read by the reading connection, beside any transaction."""
        return await self._read_by(self._reader, lambda: self._read_connection, read)

    def refuse_when_full(self) -> None:
        """Take nothing new while the disk is full.

        Raises:
            StoreFull: it is.
        """
        if self.trouble is not None and self.trouble.full:
            raise StoreFull(self.trouble.reason)

    def tell(self, news: News) -> None:
        """Tell the listeners, if there is anything to tell."""
        if news == News():
            return
        for listener in self.listeners:
            try:
                listener.committed(news)
            except Exception as exc:  # the commit or lease stands, whatever a listener raises
                self._note_defect("listener failed", exc)

    async def shrink(self) -> bool:
        """Give free pages back to the disk; tell whether there may be more."""
        # Between transactions; under load there is no moment without one to be written.
        for _ in range(SHRINK_STEPS):
            if not await self._writer.run(self._give_back_pages):
                return False
        return True

    async def recover(self) -> None:
        """Claim the reserve again, or open the database anew."""
        if self._closed:
            raise StoreClosed
        trouble = self.trouble
        if trouble is None:
            return
        if self._identity is not None:
            await self._writer.run(self._identity.check_is_there)
        if trouble.full:
            await self.shrink()
            await self._writer.run(self._make_room)
            await self._writer.run(self._write_in_vain)
        else:
            await self._start_anew()
        if self.trouble is trouble:  # else another kind came up meanwhile
            self.trouble = None
            await self._writer.run(self._take_reserve)
        if self.trouble is None:
            log.info("store can be written again", extra={"was": trouble.reason})

    # What group commit needs

    def _begin(self, *, isolates_rows: bool) -> SqliteTransaction:
        if self._closed and self._connection is None:
            raise StoreClosed
        if self.trouble is not None and not self.trouble.full:
            raise StoreUnavailable(self.trouble.reason)
        assert self._connection is not None
        return SqliteTransaction(
            self._connection,
            self._sql,
            self.cache,
            random=self._random,
            commit=self._commit_in_place,
            isolates_rows=isolates_rows,
            row_fault=self._row_fault,
        )

    def _commit_in_place(self, connection: sqlite3.Connection) -> None:
        """Commit; the error says whether the changes may be on disk.

        Raises:
            OutcomeUnknown: they may be.
            StoreUnavailable: they are not.
        """
        # Every commit pays for these checks, and each releases the interpreter's lock: only two.
        if self._identity is not None:
            self._check(self._identity.check_log)
        try:
            self._commit(connection)
        except sqlite3.Error as exc:
            trouble = self._trouble_of(exc)
            if trouble is None:
                raise
            if getattr(exc, "sqlite_errorcode", 0) in UNDONE:
                raise trouble from exc
            raise _may_have_lasted(trouble) from exc
        if self._identity is not None:
            try:
                # After the commit: what is acknowledged must be where the next start reads it.
                self._check(self._identity.check_file)
            except StoreUnavailable as exc:
                raise _may_have_lasted(exc) from exc

    def _check(self, check: Callable[[], None]) -> None:
        try:
            check()
        except StoreUnavailable as exc:
            self._note_trouble(StoreTrouble(str(exc), full=False), str(exc))
            raise

    def _announce(self, transaction: SqliteTransaction) -> None:
        for row in transaction.set_aside:
            self.unreadable_count += 1
            log.error(
                "unreadable row set aside",
                extra={"table": row.table, "row": row.label, "reason": row.reason},
            )
        for failure in transaction.failures:
            self._count_failure(failure)
        self.tell(transaction.news)

    def _count_failure(self, failure: RowFailure) -> None:
        self._defect_count += 1
        log.error(
            "row could not be processed",
            extra={
                "table": failure.table,
                "row": failure.key,
                "step": failure.step.value,
                "error": failure.error,
                "fate": failure.fate.value,
                "stack": failure.stack,
            },
        )

    def _note_defect(self, event: str, exc: Exception) -> None:
        self._defect_count += 1
        log.error(event, extra={"error": describe_defect(exc), "stack": stack_of(exc)})

    def _announce_trouble(self) -> None:
        """Tell listeners of new trouble, so that recovery starts at once."""
        if self.trouble is not None and not self._is_announced:
            self._is_announced = True
            self.tell(News(trouble=True))

    def _trouble_of(self, exc: Exception) -> StoreUnavailable | None:
        if isinstance(exc, StoreUnavailable):
            return exc
        if isinstance(exc, MemoryError):  # the next write may find room
            return StoreUnavailable("the server is out of memory at the moment")
        found = database.translated(exc, self.path) if isinstance(exc, sqlite3.Error) else None
        if isinstance(found, StoreFull):
            return self._note_full()
        if found is not None:
            trouble = StoreTrouble(str(found), full=False, damaged=is_damage(exc))
            self._note_trouble(trouble, str(found) if trouble.damaged else str(exc))
        return found

    def _note_full(self) -> StoreFull:
        """Record that the disk is full, and make what room there is."""
        if self._reserve is None:
            found = StoreFull()
        else:
            # The outcomes of attempts, deletes and pruning need this room; pushes wait.
            if self.trouble is None:
                with suppress(OSError):
                    self._reserve.give_up()
            found = StoreFull(self._reserve.describe_shortage())
        if self.trouble is not None and self.trouble.full:
            self.trouble = StoreTrouble(str(found), full=True)  # the room has changed
        self._note_trouble(StoreTrouble(str(found), full=True), str(found))
        return found

    def _note_trouble(self, trouble: StoreTrouble, error: str) -> None:
        """Record this trouble unless the same or a worse one is already recorded."""
        if self.trouble is None or (self.trouble.full and not trouble.full):
            self.trouble, self._is_announced = trouble, False
            log.error("store cannot be written", extra={"error": error})

    # Reading

    async def _read_by(
        self,
        runner: Runner,
        connection: Callable[[], sqlite3.Connection | None],
        read: Callable[[Reading], R],
    ) -> R:
        bad: list[Unreadable] = []

        def work() -> R:
            opened = connection()
            if opened is None:
                raise self._why_disconnected()
            reading = Reading(opened, self._sql, self.cache.leases.__contains__)
            try:
                return read(reading)
            except (sqlite3.Error, MemoryError) as exc:
                raise self._trouble_of(exc) or exc from exc
            finally:
                bad.extend(reading.bad)
                # Only a task's own row keeps it from being leased, not one of its attempts'.
                self.unreadable.update(
                    row.key for row in bad if row.table == "tasks" and isinstance(row.key, int)
                )

        try:
            result = await runner.run(work)
        except StoreUnavailable:
            self._announce_trouble()
            raise
        await self._set_aside(bad)
        return result

    def _why_disconnected(self) -> StoreUnavailable:
        if self._closed:
            return StoreClosed()
        return (
            StoreUnavailable() if self.trouble is None else StoreUnavailable(self.trouble.reason)
        )

    async def _set_aside(self, rows: Sequence[Unreadable]) -> None:
        for row in rows:
            try:
                await self._group.write(set_aside, SetAsideCall(row, self._now()))
            except StoreUnavailable:
                # What was read is good all the same; the row is to be met again.
                self.unreadable -= {row.key}
            except Exception as exc:  # as good: a lease that was read must reach its dispatcher
                self._note_defect("unreadable row not set aside", exc)

    # Connecting

    def _connect(self, *, must_exist: bool, depth: Depth = Depth.START) -> None:
        with database.opening(self.path, depth=depth):
            self._give_up_reserve_if_needed()
            connection = database.connect(self.path, must_exist=must_exist)
            try:
                database.prepare(connection, must_exist=must_exist)
                if self.path is None:
                    self._read_connection = connection
                else:
                    self._read_connection = database.connect_reader(self.path)
                if self._identity is not None:
                    self._identity.remember()
            except BaseException:
                connection.close()
                raise
        self._connection = connection

    async def _disconnect_both(self) -> None:
        # Each by its own runner: a connection must not be closed while it is being used.
        if await self._writer.run(self._must_keep_log):
            # The last connection to close checkpoints the log, unless it is read-only. So the
            # reader closes last: a part of a log would corrupt the database, and a damaged one
            # is not written to.
            await self._writer.run(self._disconnect)
        await self._reader.run(self._disconnect_reader)
        await self._writer.run(self._disconnect)

    def _must_keep_log(self) -> bool:
        is_damaged = self.trouble is not None and self.trouble.damaged
        return is_damaged or (self._identity is not None and self._identity.is_cut_short())

    def _disconnect_reader(self) -> None:
        connection, self._read_connection = self._read_connection, None
        if connection is not None and connection is not self._connection:
            with suppress(sqlite3.Error):
                connection.close()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _report_remaining_log(self) -> None:
        """Log that closing did not bring the log into the file, such as on a full disk."""
        if self.path is None:
            return
        wal = wal_of(self.path)
        with suppress(OSError):  # a failing disk must not keep the store from stopping
            if not is_empty(wal):
                log.warning(
                    "the database's log could not be emptied: it is part of the data",
                    extra={"log": str(wal)},
                )

    def _let_go(self) -> None:
        if self._identity is not None:
            self._identity.close()

    # Trouble

    async def _start_anew(self) -> None:
        """Open the database again, and take what it holds for what is so.

        An error says that a commit is not known to be durable, not that it is undone.
        """
        if self.path is not None:
            await self._disconnect_both()
            await self._writer.run(self._reconnect)
        await self._writer.run(self._forget_ended_leases)
        await self._writer.run(self.cache.clear_rows)
        stored = await self.look(stored_queues)
        changed = changed_queues(self.cache.queues, stored)
        self.cache.queues = stored
        self.tell(News(queues=changed))

    def _reconnect(self) -> None:
        """Open the database anew, never create it, and check it, also for being writable."""
        assert self._identity is not None and self.path is not None
        assert self.trouble is not None
        stamp = files_stamp([self.path, wal_of(self.path)])
        if stamp == self._damage_stamp:  # a check takes seconds: only again after a change
            raise StoreUnavailable(self.trouble.reason)
        self._identity.close_index()
        try:
            depth = Depth.CONTENT if self.trouble.damaged else Depth.STRUCTURE
            self._connect(must_exist=True, depth=depth)
            assert self._connection is not None
            database.write_in_vain(self._connection, self._commit_in_place)
        except (sqlite3.Error, OSError, MemoryError, PousseTachesError) as exc:
            self._disconnect()
            if isinstance(exc, database.DamagedDatabase):
                self._damage_stamp = stamp
                self.trouble = StoreTrouble(str(exc), full=False, damaged=True)
                log.error("database is damaged", extra={"error": str(exc)})
            raise StoreUnavailable(str(exc)) from exc
        except BaseException:  # a bug, which the dispatcher's loop logs and counts
            self._disconnect()
            raise

    def _forget_ended_leases(self) -> None:
        """Give up the leases of attempts whose end is on disk, though its commit failed."""
        assert self._connection is not None
        leases = self.cache.leases
        for record in leases:
            row = self._connection.execute(self._sql["leased_task"], (record.seq,)).fetchone()
            if row is None or row[0] != record.attempt_total:
                leases.give_up(record.seq)
            elif row[1]:
                leases.cancel(record.seq)

    def _give_up_reserve_if_needed(self) -> None:
        """Make room for opening: its files, an upgrade, and what a crash left to be written."""
        if self._reserve is None:
            return
        with suppress(OSError):
            if self._reserve.is_needed:
                self._reserve.give_up()

    def _take_reserve(self) -> None:
        try:
            self._refill()
        except StoreFull:
            self._note_full()

    def _make_room(self) -> None:
        """Bring the log into the database, so that it takes no room, then claim the reserve."""
        if self.path is not None and self._connection is not None:
            if self._identity is not None:
                self._check(self._identity.check_log)
                self._identity.allow_shrinking()
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            self._refill()
        except StoreFull as exc:
            raise self._note_full() from exc

    def _write_in_vain(self) -> None:
        """Commit no change: there may be room, and the disk not be writable all the same."""
        assert self._connection is not None
        try:
            database.write_in_vain(self._connection, self._commit_in_place)
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _refill(self) -> None:
        if self._reserve is None:
            return
        try:
            self._reserve.take()
        except OSError as exc:
            if exc.errno in NO_ROOM:
                raise StoreFull from exc
            # It is only needed on a full disk, and the store works without it.
            log.warning("reserve cannot be claimed", extra={"error": str(exc)})

    def _give_back_pages(self) -> bool:
        """Give some free pages back to the disk; tell whether there were any."""
        if self._connection is None and self._closed:
            raise StoreClosed
        if self._connection is None or (self.trouble is not None and not self.trouble.full):
            return False
        if self._identity is not None:
            self._check(self._identity.check_log)
            self._identity.allow_shrinking()
        try:
            if not self._connection.execute("PRAGMA freelist_count").fetchone()[0]:
                return False
            # A script, since ``execute`` stops after the first step, which is one page.
            pages = SHRINK_PAGES // SHRINK_STEPS
            self._connection.executescript(f"BEGIN IMMEDIATE; PRAGMA incremental_vacuum({pages});")
            number_commit(self._connection)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, MemoryError) as exc:
            with suppress(sqlite3.Error):  # then recovering opens a new connection
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise self._trouble_of(exc) or exc from exc
        return True


def _may_have_lasted(exc: Exception) -> OutcomeUnknown:
    return OutcomeUnknown(f"the change may or may not have been made: {exc}")
