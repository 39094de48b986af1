"""``SqliteStore``: the contract, carried out by the modules beside this one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

from poussetaches.core.edits import Edit
from poussetaches.core.errors import PousseTachesError, StoreUnavailable
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import ClockRecord, Moment
from poussetaches.core.queue import BucketRecord, Lane, Queue, QueueCounts, Retention
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Task, TaskState
from poussetaches.store.base import (
    Change,
    Edited,
    FailureCount,
    Finish,
    LastUse,
    Lease,
    Leased,
    Listener,
    News,
    Page,
    Push,
    Pushed,
    QueueEdit,
    ScheduleEdit,
    Selection,
    StoreSize,
    StoreTrouble,
    SummaryPage,
    TaskChange,
    TaskSummary,
)
from poussetaches.store.export_records import Record
from poussetaches.store.minute_row import MinuteRow
from poussetaches.store.runner import Runner
from poussetaches.store.sqlite import (
    attempt_writes,
    clock_record,
    database,
    due_tasks,
    edits,
    maintenance_writes,
    push_writes,
    queue_writes,
    record_rows,
    schedule_writes,
    search,
    tasks,
)
from poussetaches.store.sqlite.database_session import DatabaseSession
from poussetaches.store.sqlite.failure_counts import FailureCounter
from poussetaches.store.sqlite.reserve import Reserve
from poussetaches.store.sqlite.row_reader import Reading
from poussetaches.store.sqlite.transaction import Counted, RowFault

V = TypeVar("V")

log = logging.getLogger(__name__)


class SqliteStore:
    """A store in one file, which its caller has locked; in memory when ``path`` is None.

    ``writer`` and ``reader`` run the two connections' work (a store in memory has but one
    connection), ``commit`` makes a transaction durable, ``now`` dates what is set aside, and
    ``random`` is for the ids of callbacks. ``row_fault`` makes rows fail in tests.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        writer: Runner,
        reader: Runner,
        now: Callable[[], Moment],
        random: Random,
        window: float = 0.0,
        commit: database.Commit = database.commit,
        reserve: Reserve | None = None,
        row_fault: RowFault | None = None,
    ) -> None:
        self._now = now
        self._to = DatabaseSession(
            path,
            writer=writer,
            reader=reader,
            now=now,
            random=random,
            window=window,
            commit=commit,
            reserve=reserve,
            row_fault=row_fault,
        )
        self._leases = self._to.cache.leases

    # Life

    async def open(self) -> None:
        """Connect, bring the schema up to date, and bury what a crash left cancelled."""
        try:
            await self._to.open()
            await self._to.write(maintenance_writes.bury_cancelled, self._now())
            earlier = await self._to.read_latest(
                lambda reading: reading.number("unreadable_count")
            )
        except BaseException:
            await self.close()
            raise
        if earlier:
            log.warning(
                "unreadable rows were set aside earlier",
                extra={"count": earlier, "database": str(self._to.path), "table": "unreadable"},
            )

    async def close(self) -> None:
        """Commit what was given, and disconnect."""
        await self._to.close()

    def listen(self, listener: Listener) -> None:
        """Tell one more listener of changes from now on."""
        self._to.listeners.append(listener)

    # Tasks

    async def add(self, task: Task) -> None:
        """Keep a new task."""
        self._to.refuse_when_full()
        await self._to.write(tasks.add, task)

    async def push(
        self, items: Sequence[Push], *, now: Moment, confirmed: Moment | None = None
    ) -> list[Pushed]:
        """Add new tasks; a repeated push returns the existing task."""
        self._to.refuse_when_full()
        pushing = push_writes.PushCall(items, now, confirmed or now)
        return _value(await self._to.write(push_writes.push, pushing, size=pushing.size))

    async def restore(self, items: Sequence[tuple[Task, Sequence[Attempt]]]) -> int:
        """Keep tasks with their attempts as they are."""
        self._to.refuse_when_full()
        return await self._to.write(
            push_writes.restore, push_writes.RestoreCall(items, self._now())
        )

    async def get(self, task_id: str) -> Task | None:
        """Return a task."""
        return await self._to.read(lambda reading: reading.task(task_id))

    async def attempts(self, task_id: str) -> list[Attempt]:
        """Return the attempts kept of a task."""
        return await self._to.read(lambda reading: reading.attempts(task_id))

    async def tasks(self, filter: TaskFilter, *, after: int | None, limit: int) -> Page:
        """Return a page of what a filter selects."""
        leased = self._leases.numbers
        return await self._to.read(
            lambda reading: search.page(reading, filter, leased=leased(), after=after, limit=limit)
        )

    async def select(self, filter: TaskFilter, *, after: int | None, limit: int) -> Selection:
        """Return the numbers of what a filter selects."""
        leased = self._leases.numbers
        return await self._to.read(
            lambda reading: search.select(
                reading, filter, leased=leased(), after=after, limit=limit
            )
        )

    async def failures(self, state: TaskState) -> list[FailureCount]:
        """Return the groups of dead, or of failing tasks."""
        counting = FailureCounter(state)
        while await self._to.read(counting.count_next):
            pass
        return counting.result()

    async def count_ahead(self, task_id: str, *, now: Moment, limit: int) -> int:
        """Return how many due tasks come before one."""
        return await self._to.read(
            lambda reading: due_tasks.count_ahead(
                reading, self._leases, task_id, now=now, limit=limit
            )
        )

    async def edit(self, task_id: str, edit: Edit, *, now: Moment) -> Task | None:
        """Edit a task."""
        return _value(await self._to.write(edits.edit, edits.Editing(task_id, edit, now)))

    async def edit_slice(
        self,
        numbers: Sequence[int],
        edit: Edit,
        *,
        start: int,
        filter: TaskFilter,
        now: Moment,
        dry_run: bool = False,
    ) -> Edited:
        """Edit some of many tasks."""
        item = edits.EditingSlice(numbers, start, edit, filter, now, dry_run)
        return await self._to.write(edits.edit_slice, item)

    async def list_enveloped(
        self, state: TaskState, *, after: tuple[Moment, str] | None, limit: int
    ) -> SummaryPage:
        """Return a page of the original's tasks."""
        return await self._to.read(lambda reading: reading.enveloped(state, after, limit))

    # Dispatch

    async def lease_due(
        self, lanes: Mapping[Lane, int], *, now: Moment, skip_expired: bool = False
    ) -> Leased:
        """Lease due tasks."""
        leased = await self._to.read_latest(
            lambda reading: self._due_task_search(reading).lease_due(
                lanes, now, skip_expired=skip_expired
            )
        )
        started = [
            TaskChange(lease.task.id, lease.task.queue, Change.STARTED, TaskState.RUNNING)
            for lease in leased.leases
        ]
        self._to.tell(News(tasks=started))
        return leased

    async def next_due(self) -> dict[Lane, Moment]:
        """Return when each lane's next task is due."""
        return await self._to.read_latest(
            lambda reading: self._due_task_search(reading).next_due()
        )

    async def lanes_used_since(self, moment: Moment) -> list[Lane]:
        """Return the lanes that had a task."""
        lanes = await self._to.read_latest(
            lambda reading: reading.lanes("lanes_used_since", moment)
        )
        return list(lanes.values())

    async def pull_back(self, *, now: Moment, was: Moment, confirmed: Moment) -> int:
        """Correct ``run_at`` after the clock was set back."""
        numbers = await self._to.read(lambda reading: clock_record.waiting_after(reading, now))
        count = 0
        for start in range(0, len(numbers), clock_record.SLICE):
            part = numbers[start : start + clock_record.SLICE]
            item = clock_record.PullBackCall(part, now, was, confirmed)
            count += await self._to.write(clock_record.pull_back, item)
        return count

    async def finish(self, finish: Finish, *, now: Moment) -> bool:
        """Record the end of an attempt."""
        return await self._to.write(attempt_writes.finish, attempt_writes.FinishCall(finish, now))

    async def give_back(self, lease: Lease, *, now: Moment, error: str | None = None) -> bool:
        """Give up a lease without an attempt."""
        return await self._to.write(
            attempt_writes.give_back, attempt_writes.GiveBackCall(lease, now, error)
        )

    # Queues

    async def queues(self) -> dict[str, Queue]:
        """Return every queue."""
        return await self._to.read_latest(lambda _: dict(self._to.cache.queues))

    async def edit_queue(self, name: str, edit: QueueEdit) -> Queue | None:
        """Edit a queue."""
        item = queue_writes.EditCall(name, self._unless_full(edit))
        return _value(await self._to.write(queue_writes.edit, item))

    async def buckets(self) -> dict[str, BucketRecord]:
        """Return the stored token buckets by queue."""
        return await self._to.read_latest(queue_writes.buckets)

    async def keep_buckets(self, buckets: Mapping[str, BucketRecord]) -> None:
        """Store when the buckets of queues are full again."""
        await self._to.write(queue_writes.write_buckets, buckets)

    # Schedules

    async def edit_schedule(
        self, name: str, edit: ScheduleEdit, *, now: Moment
    ) -> Schedule | None:
        """Edit a schedule."""
        item = schedule_writes.EditCall(name, self._unless_full(edit), now)
        return _value(await self._to.write(schedule_writes.edit, item))

    async def replace_schedules(
        self, owner: str, version: int | None, items: Sequence[Schedule], *, now: Moment
    ) -> None:
        """Keep an owner's whole set of schedules."""
        self._to.refuse_when_full()
        item = schedule_writes.ReplaceCall(owner, version, items, now)
        _value(await self._to.write(schedule_writes.replace, item))

    async def schedule(self, name: str) -> Schedule | None:
        """Return a schedule."""
        return await self._to.read(lambda reading: reading.schedule(name))

    async def schedules(self, owner: str | None) -> list[Schedule]:
        """Return an owner's schedules, or all."""
        if owner is None:
            return await self._to.read(lambda reading: reading.schedules("all_schedules"))
        return await self._to.read(lambda reading: reading.schedules("owned_schedules", owner))

    async def due_schedules(self, now: Moment) -> list[Schedule]:
        """Return the schedules that are due."""
        return await self._to.read_latest(lambda reading: reading.schedules("due_schedules", now))

    async def stranded_schedules(self, after: Moment) -> list[Schedule]:
        """Return the schedules that were made or fired later than a moment."""
        return await self._to.read_latest(
            lambda reading: reading.schedules("stranded_schedules", after)
        )

    async def next_schedule_at(self) -> Moment | None:
        """Return when the next schedule is due."""
        found = await self._to.read_latest(lambda reading: reading.value("next_schedule_at"))
        return Moment(found) if isinstance(found, int) else None

    async def fire(self, schedule: Schedule, run: Task, *, now: Moment) -> bool:
        """Advance a schedule and add its run."""
        self._to.refuse_when_full()
        return await self._to.write(
            schedule_writes.fire, schedule_writes.FireCall(schedule, run, now)
        )

    async def fire_by_hand(self, name: str, run: Task) -> bool:
        """Add a run to a schedule."""
        self._to.refuse_when_full()
        return await self._to.write(
            schedule_writes.fire_by_hand, schedule_writes.ManualFireCall(name, run)
        )

    async def move_schedule(self, schedule: Schedule) -> None:
        """Keep a schedule's moments."""
        await self._to.write(schedule_writes.move, schedule_writes.MoveCall(schedule, self._now()))

    async def latest_runs(self, names: Sequence[str]) -> dict[str, TaskSummary]:
        """Return the latest run of each schedule."""
        return await self._to.read(lambda reading: reading.latest_runs(names))

    async def delete_schedules(self, owner: str, *, now: Moment) -> int:
        """Delete an owner's schedules and their waiting runs."""
        return await self._to.write(schedule_writes.delete, schedule_writes.DeleteCall(owner, now))

    # The server's own pause

    async def paused(self) -> bool:
        """Tell whether the server is paused."""
        return (
            await self._to.read_latest(lambda reading: reading.value("server_value", "paused"))
            == "1"
        )

    async def set_paused(self, paused: bool) -> None:
        """Pause or resume the server."""
        await self._to.write(maintenance_writes.set_paused, paused)

    # Maintenance

    async def tidy(self, *, now: Moment, limit: int, confirmed: Moment | None = None) -> int:
        """Delete rows that nobody needs."""
        return await self._to.write(
            maintenance_writes.tidy, maintenance_writes.TidyCall(confirmed or now, limit)
        )

    async def expire(self, *, now: Moment, limit: int, confirmed: Moment | None = None) -> int:
        """Bury waiting tasks past their end."""
        expiring = maintenance_writes.ExpireCall(now, limit, confirmed or now)
        return await self._to.write(maintenance_writes.expire, expiring)

    async def next_expiry(self) -> Moment | None:
        """Return when the next waiting task expires."""
        found = await self._to.read_latest(lambda reading: reading.value("next_expiry"))
        return Moment(found) if isinstance(found, int) else None

    async def prune(
        self,
        queue: str,
        state: TaskState,
        keep: Retention,
        *,
        now: Moment,
        limit: int,
        confirmed: Moment | None = None,
    ) -> int:
        """Delete ended tasks past their retention."""
        counted: Counted = "dead" if state is TaskState.DEAD else "succeeded"
        pruning = maintenance_writes.PruneCall(queue, counted, keep, confirmed or now, limit)
        return await self._to.write(maintenance_writes.prune, pruning)

    async def shrink(self) -> bool:
        """Give free pages back to the disk."""
        return await self._to.shrink()

    async def counts(self) -> dict[str, QueueCounts]:
        """Return every queue with its counts."""
        return await self._to.read(lambda reading: due_tasks.counts(reading, self._leases))

    # The clock

    async def clock(self) -> ClockRecord | None:
        """Return the stored clock record."""
        return await self._to.read_latest(clock_record.read_record)

    async def keep_clock(self, record: ClockRecord) -> None:
        """Store the clock record."""
        await self._to.write(clock_record.write_record, record)

    async def last_use(self) -> LastUse:
        """Return when the store was last in use."""
        return await self._to.read_latest(clock_record.last_use)

    # Statistics

    async def put_minutes(self, rows: Sequence[MinuteRow]) -> None:
        """Keep what happened in a minute."""
        self._to.refuse_when_full()
        await self._to.write(maintenance_writes.put_minutes, rows)

    async def minutes(self, queue: str, *, since: Moment) -> list[MinuteRow]:
        """Return what happened in a queue."""
        return await self._to.read(lambda reading: reading.minutes(queue, since))

    async def size(self) -> StoreSize:
        """Return how much room the store takes and has."""
        return await self._to.read(lambda reading: _size(self._to.path, reading))

    # All of it

    async def put_records(self, items: Sequence[Record]) -> int | None:
        """Put records of an export into a new store."""
        self._to.refuse_when_full()
        item = record_rows.ImportCall(items, self._now())
        return await self._to.write(record_rows.put_records, item)

    # Health

    @property
    def trouble(self) -> StoreTrouble | None:
        """What keeps the store from writing."""
        return self._to.trouble

    @property
    def unreadable_count(self) -> int:
        """How many rows were set aside since the store was opened."""
        return self._to.unreadable_count

    @property
    def internal_error_count(self) -> int:
        """How many rows could not be processed since the store was opened."""
        return self._to.internal_error_count

    async def recover(self) -> None:
        """Get out of trouble."""
        await self._to.recover()

    def _due_task_search(self, reading: Reading) -> due_tasks.DueTaskSearch:
        return due_tasks.DueTaskSearch(reading, self._to.cache, self._to.unreadable)

    def _unless_full(self, edit: Callable[[V | None], V | None]) -> Callable[[V | None], V | None]:
        """Return an edit that makes nothing new while the disk is full."""

        def checked(known: V | None) -> V | None:
            new = edit(known)
            if known is None and new is not None:
                self._to.refuse_when_full()
            return new

        return checked


def _value(result: V | PousseTachesError) -> V:
    """Return what a write came to, and raise why it was refused."""
    if isinstance(result, PousseTachesError):
        raise result
    return result


def _size(path: Path | None, reading: Reading) -> StoreSize:
    if path is None:
        pages, size = reading.number("page_count"), reading.number("page_size")
        return StoreSize(used=pages * size, free=None)
    try:
        files = (path, path.with_name(f"{path.name}-wal"))
        used = sum(file.stat().st_size for file in files if file.exists())
        disk = os.statvfs(path.parent)
    except OSError as exc:
        raise StoreUnavailable(f"the store's folder cannot be looked at: {exc}") from exc
    return StoreSize(used=used, free=disk.f_bavail * disk.f_frsize)
