"""An open database: writing behind group commit, reading beside it, and recovery."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from poussetaches.core.defect import describe_defect, stack_of
from poussetaches.core.errors import StoreClosed, StoreFull, StoreUnavailable
from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane
from poussetaches.store.base import Listener, News, StoreTrouble
from poussetaches.store.group_commit import MANY, GroupCommit, Write
from poussetaches.store.runner import Runner
from poussetaches.store.sqlite import database
from poussetaches.store.sqlite.cache import Cache
from poussetaches.store.sqlite.connection_pair import SHRINK_STEPS, ConnectionPair
from poussetaches.store.sqlite.isolation import SetAsideCall, set_aside
from poussetaches.store.sqlite.queue_writes import changed_queues, stored_queues
from poussetaches.store.sqlite.reserve import Reserve
from poussetaches.store.sqlite.row_reader import Reading, Unreadable
from poussetaches.store.sqlite.rows import COLUMNS
from poussetaches.store.sqlite.transaction import RowFailure, RowFault, SqliteTransaction
from poussetaches.store.sqlite.trouble_record import TroubleRecord
from poussetaches.store.statements import load_statements

I = TypeVar("I")  # noqa: E741 - an item of a write
R = TypeVar("R")

log = logging.getLogger(__name__)


class DatabaseSession:
    """The connections, group commit, cache and listeners of an open database.

    ``harmless`` writes only add waiting tasks, and change leased and ended ones.
    """

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
        harmless: Collection[Write[SqliteTransaction, Any, Any]] = (),
        row_fault: RowFault | None = None,
    ) -> None:
        self.path = path
        self.cache = Cache()
        self.unreadable: set[int] = set()  # tasks that must not be leased again
        self.unreadable_count = 0
        self.listeners: list[Listener] = []
        self._defect_count = 0
        self._writer = writer
        self._reader = writer if path is None else reader
        self._now = now
        self._random = random
        self._harmless = frozenset(harmless)
        self._row_fault = row_fault
        self._trouble = TroubleRecord(path, reserve)
        self._connections = ConnectionPair(path, self._trouble, commit=commit)
        self._group = GroupCommit(
            writer,
            self._begin,
            trouble_of=self._trouble.error_of,
            announce_begin=self._note_begin,
            announce_end=self.cache.short_lanes.resume,
            announce=self._announce,
            announce_failure=self._announce_trouble,
            window=window,
        )
        self._sql = load_statements("sqlite.sql", COLUMNS)
        self._closed = False

    @property
    def trouble(self) -> StoreTrouble | None:
        """The reason why the store cannot be written; None if it can."""
        return self._trouble.current

    @property
    def internal_error_count(self) -> int:
        """The number of internal errors since the store was opened."""
        return self._defect_count + self._group.defect_count

    async def open(self) -> None:
        """Connect, bring the schema up to date, and claim the reserve."""
        await self._writer.run(lambda: self._connections.connect(must_exist=False))
        await self._writer.run(self._claim_reserve)
        self.cache.queues = await self.read_latest(stored_queues)

    async def close(self) -> None:
        """Commit pending writes, and disconnect. May be called twice."""
        if self._closed:
            return
        self._closed = True
        await self._group.settle()
        was_open = self._connections.writing is not None
        await self._disconnect_both()
        if was_open:
            await self._writer.run(self._connections.report_remaining_wal)
        await self._writer.run(self._connections.close_files)
        self._writer.close()
        self._reader.close()

    def write(
        self,
        write: Write[SqliteTransaction, I, R],
        item: I,
        *,
        size: int = 0,
        rows: int = MANY,
    ) -> asyncio.Future[R]:
        """Write one item in a commit that it may share; return its result once it is on disk.

        Raises:
            StoreBusy: it has a size, in bytes, and too much is waiting already.
        """
        return self._group.write(write, item, size=size, rows=rows)

    async def read_latest(self, read: Callable[[Reading], R], *, is_brief: bool = False) -> R:
        """Read by the writing connection, between two transactions, and so the latest state."""
        return await self._read_by(
            self._writer, lambda: self._connections.writing, read, is_brief=is_brief
        )

    async def read(self, read: Callable[[Reading], R]) -> R:
        """Read by the reading connection, concurrently with any transaction."""
        return await self._read_by(self._reader, lambda: self._connections.reading, read)

    def refuse_when_full(self) -> None:
        """Raise an error if the disk is full.

        Raises:
            StoreFull: it is.
        """
        self._trouble.refuse_when_full()

    def are_short(self, lanes: Iterable[Lane]) -> bool:
        """Return whether the waiting tasks of all these lanes are known."""
        short = self.cache.short_lanes
        return self.trouble is None and all(lane in short for lane in lanes)

    def tell(self, news: News) -> None:
        """Pass news to the listeners, unless there are none."""
        if news == News():
            return
        for listener in self.listeners:
            try:
                listener.committed(news)
            except Exception as exc:  # the commit or lease stands even if a listener raises
                self._note_defect("listener failed", exc)

    async def shrink(self) -> bool:
        """Return free pages to the disk; return whether there may be more."""
        # One transaction at a time: under load, writes are always waiting for the next one.
        for _ in range(SHRINK_STEPS):
            if not await self._writer.run(self._release_pages):
                return False
        return True

    async def recover(self) -> None:
        """Claim the reserve again, or open the database again.

        Raises:
            StoreUnavailable: the store still cannot be written.
        """
        if self._closed:
            raise StoreClosed
        trouble = self.trouble
        if trouble is None:
            return
        await self._writer.run(self._connections.check_file_exists)
        if trouble.full:
            await self.shrink()
            await self._writer.run(self._connections.make_room)
            await self._writer.run(self._connections.commit_nothing)
        else:
            await self._reopen()
        if self.trouble is trouble:  # otherwise another kind came up meanwhile
            self._trouble.current = None
            await self._writer.run(self._claim_reserve)
        if self.trouble is None:
            log.info("store can be written again", extra={"was": trouble.reason})

    # Callbacks of group commit

    def _note_begin(self, writes: Collection[Write[SqliteTransaction, Any, Any]]) -> None:
        """Query for due tasks while writes are carried out that may change waiting tasks."""
        if not self._harmless.issuperset(writes):
            self.cache.short_lanes.suspend()

    def _begin(self, *, isolates_rows: bool, waits: bool) -> SqliteTransaction:
        connection = self._connections.writing
        if self._closed and connection is None:
            raise StoreClosed
        if self.trouble is not None and not self.trouble.full:
            raise self._trouble.unavailable()
        assert connection is not None
        return SqliteTransaction(
            connection,
            self._sql,
            self.cache,
            random=self._random,
            commit=self._connections.commit,
            isolates_rows=isolates_rows,
            waits=waits,
            row_fault=self._row_fault,
        )

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
        """Announce new trouble to the listeners, so that recovery starts at once."""
        if self.trouble is not None and not self._trouble.is_announced:
            self._trouble.is_announced = True
            self.tell(News(trouble=True))

    # Reading

    async def _read_by(
        self,
        runner: Runner,
        connection: Callable[[], sqlite3.Connection | None],
        read: Callable[[Reading], R],
        *,
        is_brief: bool = False,
    ) -> R:
        bad: list[Unreadable] = []

        def work() -> R:
            opened = connection()
            if opened is None:
                raise StoreClosed if self._closed else self._trouble.unavailable()
            reading = Reading(opened, self._sql, self.cache.leases.__contains__)
            try:
                return read(reading)
            except (sqlite3.Error, MemoryError) as exc:
                raise self._trouble.error_of(exc) or exc from exc
            finally:
                bad.extend(reading.bad)
                # Only a task's own row keeps it from being leased, not one of its attempts'.
                self.unreadable.update(
                    row.key for row in bad if row.table == "tasks" and isinstance(row.key, int)
                )

        try:
            result = await runner.run(work, is_brief=is_brief)
        except StoreUnavailable:
            self._announce_trouble()
            raise
        if bad:
            await self._set_aside(bad)
        return result

    async def _set_aside(self, rows: Sequence[Unreadable]) -> None:
        for row in rows:
            try:
                await self._group.write(set_aside, SetAsideCall(row, self._now()))
            except StoreUnavailable:
                # The result of the read is valid; the next read finds the row again.
                self.unreadable -= {row.key}
            except Exception as exc:  # the result is valid: a lease must reach its dispatcher
                self._note_defect("unreadable row not set aside", exc)

    # Connecting

    async def _disconnect_both(self) -> None:
        # Each by its own runner: a connection must not be closed while it is being used.
        if await self._writer.run(self._connections.must_keep_wal):
            # The last connection to close checkpoints the WAL, unless it is read-only. So the
            # reader closes last: a part of a WAL would corrupt the database, and a damaged one
            # is not written to.
            await self._writer.run(self._connections.disconnect_writer)
        await self._reader.run(self._connections.disconnect_reader)
        await self._writer.run(self._connections.disconnect_writer)

    async def _reopen(self) -> None:
        """Open the database again, and update the state in memory from it.

        A commit that failed may still be on disk.
        """
        if self.path is not None:
            await self._disconnect_both()
            await self._writer.run(self._connections.reconnect)
        await self._writer.run(self._end_recorded_leases)
        await self._writer.run(self.cache.clear_rows)
        stored = await self.read_latest(stored_queues)
        changed = changed_queues(self.cache.queues, stored)
        self.cache.queues = stored
        self.tell(News(queues=changed))

    def _end_recorded_leases(self) -> None:
        """End the leases of attempts whose end is on disk, though its commit failed."""
        connection, leases = self._connections.writing, self.cache.leases
        assert connection is not None
        for record in leases:
            row = connection.execute(self._sql["leased_task"], (record.seq,)).fetchone()
            if row is None or row[0] != record.attempt_total:
                leases.end(record.seq)
            elif row[1]:
                leases.cancel(record.seq)

    def _claim_reserve(self) -> None:
        try:
            self._trouble.claim_reserve()
        except StoreFull:
            self._trouble.note_full()

    def _release_pages(self) -> bool:
        if self._closed and self._connections.writing is None:
            raise StoreClosed
        return self._connections.release_pages()
