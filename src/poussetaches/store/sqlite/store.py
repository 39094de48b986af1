"""``SqliteStore``: one writing connection behind group commit, one for reading."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from poussetaches.core.errors import StoreClosed, StoreFull, StoreUnavailable
from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane, QueueCounts, Retention
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Task, TaskState
from poussetaches.store.base import (
    Finish,
    Leased,
    Listener,
    StoreTrouble,
    TaskPage,
    TaskSummary,
)
from poussetaches.store.group_commit import GroupCommit
from poussetaches.store.runner import Runner
from poussetaches.store.sqlite import database, schedules, tasks
from poussetaches.store.sqlite.leases import Leases
from poussetaches.store.sqlite.reads import Reading, Unreadable
from poussetaches.store.sqlite.reserve import Reserve
from poussetaches.store.sqlite.rows import ATTEMPT_COLUMNS, SCHEDULE_COLUMNS, TASK_COLUMNS
from poussetaches.store.sqlite.transaction import Counted, KnownLanes, SqliteTransaction
from poussetaches.store.sqlite.unreadable import SettingAside, set_aside
from poussetaches.store.statements import load_statements

R = TypeVar("R")

SHRINK_PAGES = 2000  # given back to the disk in one go: keeps the write lock under ~50 ms

log = logging.getLogger(__name__)


class SqliteStore:
    """A store in one file, which its caller has locked; in memory when ``path`` is None.

    ``writer`` and ``reader`` run the two connections' work (a store in memory has but one
    connection), ``commit`` makes a transaction durable, and ``now`` dates what is set aside.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        writer: Runner,
        reader: Runner,
        now: Callable[[], Moment],
        window: float = 0.0,
        commit: database.Commit = database.commit,
        reserve: Reserve | None = None,
    ) -> None:
        self._path = path
        self._writer = writer
        self._reader = writer if path is None else reader
        self._now = now
        self._commit = commit
        self._reserve = reserve
        self._group = GroupCommit(
            writer,
            self._begin,
            trouble_of=self._trouble_of,
            announce=self._announce,
            window=window,
        )
        columns = {"task": TASK_COLUMNS, "attempt": ATTEMPT_COLUMNS, "schedule": SCHEDULE_COLUMNS}
        self._sql = load_statements("sqlite.sql", columns)
        self._leases = Leases()
        self._lanes = KnownLanes()
        self._listener: Listener | None = None
        self._connection: sqlite3.Connection | None = None
        self._read_connection: sqlite3.Connection | None = None
        self._trouble: StoreTrouble | None = None
        self._unreadable: set[int] = set()
        self._unreadable_count = 0
        self._closed = False

    # Life

    async def open(self) -> None:
        """Connect, bring the schema up to date, and claim the reserve."""
        try:
            await self._writer.run(lambda: self._connect(must_exist=False))
            await self._writer.run(self._take_reserve)
            await self._group.write(tasks.bury_cancelled, self._now())
            earlier = await self._look(lambda reading: reading.value("unreadable_count"))
        except BaseException:
            await self.close()
            raise
        if earlier:
            log.warning(
                "unreadable rows were set aside earlier",
                extra={"count": earlier, "database": str(self._path), "table": "unreadable"},
            )

    async def close(self) -> None:
        """Commit what was given, and disconnect."""
        if self._closed:
            return
        self._closed = True
        await self._group.settle()
        # Each by its own runner: a connection must not be closed while it is being used.
        await self._reader.run(self._disconnect_reader)
        await self._writer.run(self._disconnect)
        self._writer.close()
        self._reader.close()

    def listen(self, listener: Listener) -> None:
        """Tell the listener of changes from now on."""
        self._listener = listener

    # Tasks

    async def add(self, task: Task) -> None:
        """Keep a new task."""
        self._refuse_when_full()
        await self._group.write(tasks.add, task)

    async def restore(self, items: Sequence[tuple[Task, Sequence[Attempt]]]) -> int:
        """Keep tasks with their attempts as they are."""
        self._refuse_when_full()
        return await self._group.write(_all_together, items)

    async def get(self, task_id: str) -> Task | None:
        """Return a task."""
        return await self._read(lambda reading: reading.task(task_id))

    async def attempts(self, task_id: str) -> list[Attempt]:
        """Return the attempts kept of a task."""
        return await self._read(lambda reading: reading.attempts(task_id))

    async def list_enveloped(
        self, state: TaskState, *, after: tuple[Moment, str] | None, limit: int
    ) -> TaskPage:
        """Return a page of the original's tasks."""
        return await self._read(lambda reading: reading.enveloped(state, after, limit))

    # Dispatch

    async def lease_due(self, lanes: Mapping[Lane, int], *, now: Moment) -> Leased:
        """Lease due tasks."""
        return await self._look(lambda reading: reading.lease_due(lanes, now, self._unreadable))

    async def next_due(self) -> dict[Lane, Moment]:
        """Return when each lane's next task is due."""
        return await self._look(lambda reading: reading.next_due(self._unreadable))

    async def lanes_used_since(self, moment: Moment) -> list[Lane]:
        """Return the lanes that had a task."""
        return await self._look(lambda reading: reading.lanes_used_since(moment))

    async def finish(self, finish: Finish, *, now: Moment) -> bool:
        """Record the end of an attempt."""
        return await self._group.write(tasks.finish, tasks.TimedFinish(finish, now))

    # Schedules

    async def put_schedule(self, schedule: Schedule) -> bool:
        """Keep a schedule unless its name is known."""
        self._refuse_when_full()
        return await self._group.write(schedules.put, schedule)

    async def schedules(self, owner: str) -> list[Schedule]:
        """Return an owner's schedules."""
        return await self._read(lambda reading: reading.schedules("owned_schedules", owner))

    async def due_schedules(self, now: Moment) -> list[Schedule]:
        """Return the schedules that are due."""
        return await self._look(lambda reading: reading.schedules("due_schedules", now))

    async def stranded_schedules(self, after: Moment) -> list[Schedule]:
        """Return the schedules that were made or fired later than a moment."""
        return await self._look(lambda reading: reading.schedules("stranded_schedules", after))

    async def next_schedule_at(self) -> Moment | None:
        """Return when the next schedule is due."""
        found = await self._look(lambda reading: reading.value("next_schedule_at"))
        return Moment(found) if isinstance(found, int) else None

    async def fire(self, schedule: Schedule, run: Task, *, now: Moment) -> bool:
        """Advance a schedule and add its run."""
        self._refuse_when_full()
        return await self._group.write(schedules.fire, schedules.Firing(schedule, run, now))

    async def move_schedule(self, schedule: Schedule) -> None:
        """Keep a schedule's moments."""
        await self._group.write(schedules.move, schedule)

    async def latest_runs(self, names: Sequence[str]) -> dict[str, TaskSummary]:
        """Return the latest run of each schedule."""
        return await self._read(lambda reading: reading.latest_runs(names))

    async def delete_schedules(self, owner: str, *, now: Moment) -> int:
        """Delete an owner's schedules and their waiting runs."""
        return await self._group.write(schedules.delete, schedules.Removal(owner, now))

    # The server's own pause

    async def paused(self) -> bool:
        """Tell whether the server is paused."""
        return await self._look(lambda reading: reading.value("server_value", "paused")) == "1"

    async def set_paused(self, paused: bool) -> None:
        """Pause or resume the server."""
        await self._group.write(_set_paused, paused)

    # Maintenance

    async def expire(self, *, now: Moment, limit: int) -> int:
        """Bury waiting tasks past their end."""
        return await self._group.write(tasks.expire, tasks.Expiring(now, limit))

    async def prune(
        self, queue: str, state: TaskState, keep: Retention, *, now: Moment, limit: int
    ) -> int:
        """Delete ended tasks past their retention."""
        counted: Counted = "dead" if state is TaskState.DEAD else "succeeded"
        pruning = tasks.Pruning(queue, counted, keep, now, limit)
        return await self._group.write(tasks.prune, pruning)

    async def shrink(self) -> None:
        """Give free pages back to the disk."""
        # Between two transactions; under load there is no moment without one to be written.
        await self._writer.run(self._give_back_pages)

    async def counts(self) -> dict[str, QueueCounts]:
        """Return every queue with its counts."""
        return await self._read(lambda reading: reading.counts())

    # Health

    @property
    def trouble(self) -> StoreTrouble | None:
        """What keeps the store from writing."""
        return self._trouble

    @property
    def unreadable_count(self) -> int:
        """How many rows were set aside since the store was opened."""
        return self._unreadable_count

    async def recover(self) -> None:
        """Claim the reserve again, or open the database anew."""
        if self._closed:
            raise StoreClosed
        trouble = self._trouble
        if trouble is None:
            return
        if trouble.full:
            await self._writer.run(self._refill)
        else:
            if self._path is not None:
                await self._reader.run(self._disconnect_reader)
                await self._writer.run(self._reconnect)
            await self._writer.run(self._forget_ended_leases)
        if self._trouble is trouble:  # else another kind came up meanwhile
            self._trouble = None
            log.info("store can be written again", extra={"was": trouble.reason})

    # What the methods above stand on

    def _begin(self) -> SqliteTransaction:
        if self._closed and self._connection is None:
            raise StoreClosed
        if self._trouble is not None and not self._trouble.full:
            raise StoreUnavailable(self._trouble.reason)
        assert self._connection is not None
        return SqliteTransaction(
            self._connection, self._sql, self._leases, self._lanes, self._commit
        )

    def _trouble_of(self, exc: Exception) -> StoreUnavailable | None:
        if isinstance(exc, StoreUnavailable):
            return exc
        trouble = database.translated(exc) if isinstance(exc, sqlite3.Error) else None
        full = isinstance(trouble, StoreFull)
        if trouble is not None and (self._trouble is None or (self._trouble.full and not full)):
            self._trouble = StoreTrouble(str(trouble), full=full)
            log.error("store cannot be written", extra={"error": str(exc)})
            if full and self._reserve is not None:
                # The outcomes of attempts, deletes and pruning need this room; pushes wait.
                with suppress(OSError):
                    self._reserve.give_up()
        return trouble

    def _refuse_when_full(self) -> None:
        if self._trouble is not None and self._trouble.full:
            raise StoreFull

    def _announce(self, transaction: SqliteTransaction) -> None:
        if self._listener is None:
            return
        for lane, run_at in transaction.waits.items():
            self._listener.task_waits(lane, run_at)
        if transaction.schedules_changed:
            self._listener.schedules_changed()
        if transaction.paused is not None:
            self._listener.pause_changed(transaction.paused)

    async def _look(self, read: Callable[[Reading], R]) -> R:
        """Read by the writing connection, between two transactions: it sees the latest."""
        return await self._run(self._writer, lambda: self._connection, read)

    async def _read(self, read: Callable[[Reading], R]) -> R:
        """Read by the reading connection, beside any transaction."""
        return await self._run(self._reader, lambda: self._read_connection, read)

    async def _run(
        self,
        runner: Runner,
        connection: Callable[[], sqlite3.Connection | None],
        read: Callable[[Reading], R],
    ) -> R:
        bad: list[Unreadable] = []

        def work() -> R:
            opened = connection()
            if opened is None:
                raise StoreClosed if self._closed else StoreUnavailable
            reading = Reading(opened, self._sql, self._leases)
            try:
                return read(reading)
            except sqlite3.Error as exc:
                raise self._trouble_of(exc) or exc from exc
            finally:
                bad.extend(reading.bad)
                # Only a task's own row keeps it from being leased, not one of its attempts'.
                self._unreadable.update(
                    row.key for row in bad if row.table == "tasks" and isinstance(row.key, int)
                )

        result = await runner.run(work)
        for row in bad:
            await self._set_aside(row)
        return result

    async def _set_aside(self, row: Unreadable) -> None:
        try:
            if not await self._group.write(set_aside, SettingAside(row, self._now())):
                return
        except StoreUnavailable:
            # What was read is good all the same; the row is to be met again.
            self._unreadable -= {row.key}
            return
        self._unreadable_count += 1
        log.error(
            "unreadable row set aside",
            extra={"table": row.table, "row": row.key, "reason": row.reason},
        )

    def _connect(self, *, must_exist: bool) -> None:
        with database.opening(self._path):
            connection = database.connect(self._path, must_exist=must_exist)
            try:
                database.prepare(connection, must_exist=must_exist)
                if self._path is None:
                    self._read_connection = connection
                else:
                    self._read_connection = database.connect_reader(self._path)
            except BaseException:
                connection.close()
                raise
        self._connection = connection

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

    def _reconnect(self) -> None:
        """Open the database anew, never create it, and check it."""
        self._disconnect()
        try:
            self._connect(must_exist=True)
            assert self._connection is not None
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except Exception as exc:
            self._disconnect()
            raise StoreUnavailable(str(exc)) from exc
        if found != "ok":
            self._disconnect()
            raise StoreUnavailable(f"the database is damaged: {found}")

    def _forget_ended_leases(self) -> None:
        """Give up the leases of attempts whose end is on disk, though its commit failed.

        An error says that the commit is not known to be durable, not that it is undone.
        """
        assert self._connection is not None
        for held in self._leases:
            row = self._connection.execute(self._sql["leased_task"], (held.seq,)).fetchone()
            if row is None or row[0] != held.attempt_total:
                self._leases.give_up(held.seq)
            elif row[1]:
                self._leases.cancel(held.seq)

    def _take_reserve(self) -> None:
        try:
            self._refill()
        except StoreFull:
            self._trouble = StoreTrouble(str(StoreFull()), full=True)
            log.error("store cannot be written", extra={"error": str(StoreFull())})

    def _refill(self) -> None:
        if self._reserve is None:
            return
        try:
            self._reserve.take()
        except OSError as exc:
            raise StoreFull from exc

    def _give_back_pages(self) -> None:
        if self._connection is None and self._closed:
            raise StoreClosed
        if self._connection is None or self._trouble is not None:
            return
        try:
            # A script, since ``execute`` stops after the first step, which is one page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES});")
        except sqlite3.Error as exc:
            raise self._trouble_of(exc) or exc from exc


def _all_together(
    tx: SqliteTransaction, batches: Sequence[Sequence[tuple[Task, Sequence[Attempt]]]]
) -> Sequence[int]:
    return [sum(tasks.restore(tx, batch)) for batch in batches]


def _set_paused(tx: SqliteTransaction, values: Sequence[bool]) -> Sequence[None]:
    for paused in values:
        tx.connection.execute(tx.sql["put_server_value"], ("paused", "1" if paused else "0"))
        tx.paused = paused
    return [None] * len(values)
