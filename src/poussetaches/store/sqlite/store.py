"""``SqliteStore``: the contract, implemented by the modules beside this one."""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

from poussetaches.core.edits import Edit
from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import ClockRecord, Moment
from poussetaches.core.queue import BucketRecord, Lane, Queue, Retention
from poussetaches.core.responses import QueueCounts
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
    PushResult,
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
from poussetaches.store.group_commit import BRIEF_ROWS
from poussetaches.store.minute_row import MinuteRow
from poussetaches.store.runner import Runner
from poussetaches.store.sqlite import (
    attempt_writes,
    clock_record,
    database,
    due_tasks,
    edit_writes,
    filter_query,
    maintenance_writes,
    push_writes,
    queue_writes,
    record_rows,
    schedule_writes,
    task_writes,
)
from poussetaches.store.sqlite.database_session import DatabaseSession
from poussetaches.store.sqlite.failure_counts import FailureCounter
from poussetaches.store.sqlite.reserve import Reserve, free_bytes
from poussetaches.store.sqlite.row_reader import Reading
from poussetaches.store.sqlite.transaction import Counted, RowFault
from poussetaches.store.sqlite.wal import wal_of

V = TypeVar("V")

# Writes that change no waiting task, except that they add some.
_HARMLESS = (
    push_writes.push,
    attempt_writes.finish,
    attempt_writes.give_back,
    maintenance_writes.prune,
    maintenance_writes.tidy,
    maintenance_writes.put_minutes,
    maintenance_writes.set_paused,
    queue_writes.write_buckets,
    clock_record.write_record,
)

log = logging.getLogger(__name__)


class SqliteStore:
    """A store in one file, which its caller has locked; in memory if ``path`` is None.

    ``writer`` and ``reader`` run the functions of the two connections (a store in memory has only
    one), ``commit`` makes a transaction durable, ``now`` dates rows that are set aside, and
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
        self._db = DatabaseSession(
            path,
            writer=writer,
            reader=reader,
            now=now,
            random=random,
            window=window,
            commit=commit,
            reserve=reserve,
            harmless=_HARMLESS,
            row_fault=row_fault,
        )
        self._leases = self._db.cache.leases

    # Life

    async def open(self) -> None:
        """Connect, bring the schema up to date, and bury tasks cancelled before a crash."""
        try:
            await self._db.open()
            await self._db.write(maintenance_writes.bury_cancelled, self._now())
            earlier = await self._db.read_latest(
                lambda reading: reading.number("unreadable_count")
            )
        except BaseException:
            await self.close()
            raise
        if earlier:
            log.warning(
                "unreadable rows were set aside earlier",
                extra={"count": earlier, "database": str(self._db.path), "table": "unreadable"},
            )

    async def close(self) -> None:
        await self._db.close()

    def listen(self, listener: Listener) -> None:
        self._db.listeners.append(listener)

    # Tasks

    async def add(self, task: Task) -> None:
        self._db.refuse_when_full()
        await self._db.write(task_writes.add, task)

    def push(
        self, items: Sequence[Push], *, now: Moment, confirmed: Moment | None = None
    ) -> Future[list[PushResult]]:
        self._db.refuse_when_full()
        call = push_writes.PushCall(items, now, confirmed or now)
        write = push_writes.push if call.is_unconditional else push_writes.push_by_key
        return self._db.write(write, call, size=call.size, rows=len(items))

    async def restore(self, items: Sequence[tuple[Task, Sequence[Attempt]]]) -> int:
        self._db.refuse_when_full()
        return await self._db.write(
            push_writes.restore, push_writes.RestoreCall(items, self._now())
        )

    async def get(self, task_id: str) -> Task | None:
        return await self._db.read(lambda reading: reading.task(task_id))

    async def attempts(self, task_id: str) -> list[Attempt]:
        return await self._db.read(lambda reading: reading.attempts(task_id))

    async def tasks(self, filter: TaskFilter, *, after: int | None, limit: int) -> Page:
        leased = self._leases.numbers
        return await self._db.read(
            lambda reading: filter_query.page(
                reading, filter, leased=leased(), after=after, limit=limit
            )
        )

    async def select(self, filter: TaskFilter, *, after: int | None, limit: int) -> Selection:
        leased = self._leases.numbers
        return await self._db.read(
            lambda reading: filter_query.select(
                reading, filter, leased=leased(), after=after, limit=limit
            )
        )

    async def failures(self, state: TaskState) -> list[FailureCount]:
        counting = FailureCounter(state)
        while await self._db.read(counting.count_next):
            pass
        return counting.result()

    async def count_ahead(self, task_id: str, *, now: Moment, limit: int) -> int:
        return await self._db.read(
            lambda reading: due_tasks.count_ahead(
                reading, self._leases, task_id, now=now, limit=limit
            )
        )

    async def edit(self, task_id: str, edit: Edit, *, now: Moment) -> Task | None:
        return await self._db.write(edit_writes.edit, edit_writes.EditCall(task_id, edit, now))

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
        item = edit_writes.EditSliceCall(numbers, start, edit, filter, now, dry_run)
        return await self._db.write(edit_writes.edit_slice, item)

    async def list_enveloped(
        self, state: TaskState, *, after: tuple[Moment, str] | None, limit: int
    ) -> SummaryPage:
        return await self._db.read(lambda reading: reading.enveloped(state, after, limit))

    # Dispatch

    async def lease_due(
        self, lanes: Mapping[Lane, int], *, now: Moment, skip_expired: bool = False
    ) -> Leased:
        if not skip_expired and self._db.are_short(lanes):
            leased = due_tasks.lease_known(self._db.cache, lanes, now)
        else:
            leased = await self._db.read_latest(
                lambda reading: self._due_task_search(reading).lease_due(
                    lanes, now, skip_expired=skip_expired
                ),
                is_brief=sum(lanes.values()) + len(lanes) <= BRIEF_ROWS,
            )
        started = [
            TaskChange(lease.task.id, lease.task.queue, Change.STARTED, TaskState.RUNNING)
            for lease in leased.leases
        ]
        self._db.tell(News(tasks=started))
        return leased

    async def next_due(self) -> dict[Lane, Moment]:
        return await self._db.read_latest(
            lambda reading: self._due_task_search(reading).next_due()
        )

    async def lanes_used_since(self, moment: Moment) -> list[Lane]:
        lanes = await self._db.read_latest(
            lambda reading: reading.lanes("lanes_used_since", moment)
        )
        return list(lanes.values())

    async def pull_back(self, *, now: Moment, was: Moment, confirmed: Moment) -> int:
        numbers = await self._db.read(lambda reading: clock_record.waiting_after(reading, now))
        count = 0
        for start in range(0, len(numbers), clock_record.SLICE):
            part = numbers[start : start + clock_record.SLICE]
            item = clock_record.PullBackCall(part, now, was, confirmed)
            count += await self._db.write(clock_record.pull_back, item)
        return count

    async def finish(self, finishes: Sequence[Finish], *, now: Moment) -> list[bool]:
        calls = [attempt_writes.FinishCall(finish, now) for finish in finishes]
        return await self._db.write(attempt_writes.finish, calls, rows=len(calls))

    async def give_back(self, lease: Lease, *, now: Moment, error: str | None = None) -> bool:
        return await self._db.write(
            attempt_writes.give_back, attempt_writes.GiveBackCall(lease, now, error), rows=1
        )

    # Queues

    async def queues(self) -> dict[str, Queue]:
        return await self._db.read_latest(lambda _: dict(self._db.cache.queues))

    async def edit_queue(self, name: str, edit: QueueEdit) -> Queue | None:
        item = queue_writes.EditCall(name, self._unless_full(edit))
        return await self._db.write(queue_writes.edit, item)

    async def buckets(self) -> dict[str, BucketRecord]:
        return await self._db.read_latest(queue_writes.buckets)

    async def keep_buckets(self, buckets: Mapping[str, BucketRecord]) -> None:
        await self._db.write(queue_writes.write_buckets, buckets)

    # Schedules

    async def edit_schedule(
        self, name: str, edit: ScheduleEdit, *, now: Moment
    ) -> Schedule | None:
        item = schedule_writes.EditCall(name, self._unless_full(edit), now)
        return await self._db.write(schedule_writes.edit, item)

    async def replace_schedules(
        self, owner: str, version: int | None, items: Sequence[Schedule], *, now: Moment
    ) -> None:
        self._db.refuse_when_full()
        item = schedule_writes.ReplaceCall(owner, version, items, now)
        await self._db.write(schedule_writes.replace, item)

    async def schedule(self, name: str) -> Schedule | None:
        return await self._db.read(lambda reading: reading.schedule(name))

    async def schedules(self, owner: str | None) -> list[Schedule]:
        if owner is None:
            return await self._db.read(lambda reading: reading.schedules("all_schedules"))
        return await self._db.read(lambda reading: reading.schedules("owned_schedules", owner))

    async def due_schedules(self, now: Moment) -> list[Schedule]:
        return await self._db.read_latest(lambda reading: reading.schedules("due_schedules", now))

    async def stranded_schedules(self, after: Moment) -> list[Schedule]:
        return await self._db.read_latest(
            lambda reading: reading.schedules("stranded_schedules", after)
        )

    async def next_schedule_at(self) -> Moment | None:
        found = await self._db.read_latest(lambda reading: reading.value("next_schedule_at"))
        return Moment(found) if isinstance(found, int) else None

    async def fire(self, schedule: Schedule, run: Task, *, now: Moment) -> bool:
        self._db.refuse_when_full()
        return await self._db.write(
            schedule_writes.fire, schedule_writes.FireCall(schedule, run, now)
        )

    async def fire_by_hand(self, name: str, run: Task) -> bool:
        self._db.refuse_when_full()
        return await self._db.write(
            schedule_writes.fire_by_hand, schedule_writes.ManualFireCall(name, run)
        )

    async def move_schedule(self, schedule: Schedule) -> None:
        await self._db.write(schedule_writes.move, schedule_writes.MoveCall(schedule, self._now()))

    async def latest_runs(self, names: Sequence[str]) -> dict[str, TaskSummary]:
        return await self._db.read(lambda reading: reading.latest_runs(names))

    async def delete_schedules(self, owner: str, *, now: Moment) -> int:
        return await self._db.write(schedule_writes.delete, schedule_writes.DeleteCall(owner, now))

    # The server's own pause

    async def paused(self) -> bool:
        return (
            await self._db.read_latest(lambda reading: reading.value("server_value", "paused"))
            == "1"
        )

    async def set_paused(self, paused: bool) -> None:
        await self._db.write(maintenance_writes.set_paused, paused)

    # Maintenance

    async def tidy(self, *, now: Moment, limit: int, confirmed: Moment | None = None) -> int:
        return await self._db.write(
            maintenance_writes.tidy, maintenance_writes.TidyCall(confirmed or now, limit)
        )

    async def expire(self, *, now: Moment, limit: int, confirmed: Moment | None = None) -> int:
        expiring = maintenance_writes.ExpireCall(now, limit, confirmed or now)
        return await self._db.write(maintenance_writes.expire, expiring)

    async def next_expiry(self) -> Moment | None:
        found = await self._db.read_latest(lambda reading: reading.value("next_expiry"))
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
        counted: Counted = "dead" if state is TaskState.DEAD else "succeeded"
        pruning = maintenance_writes.PruneCall(queue, counted, keep, confirmed or now, limit)
        return await self._db.write(maintenance_writes.prune, pruning)

    async def shrink(self) -> bool:
        return await self._db.shrink()

    async def counts(self) -> dict[str, QueueCounts]:
        return await self._db.read(lambda reading: due_tasks.counts(reading, self._leases))

    # The clock

    async def clock(self) -> ClockRecord | None:
        return await self._db.read_latest(clock_record.read_record)

    async def keep_clock(self, record: ClockRecord) -> None:
        await self._db.write(clock_record.write_record, record)

    async def last_use(self) -> LastUse:
        return await self._db.read_latest(clock_record.last_use)

    # Statistics

    async def put_minutes(self, rows: Sequence[MinuteRow]) -> None:
        self._db.refuse_when_full()
        await self._db.write(maintenance_writes.put_minutes, rows)

    async def minutes(self, queue: str, *, since: Moment) -> list[MinuteRow]:
        return await self._db.read(lambda reading: reading.minutes(queue, since))

    async def size(self) -> StoreSize:
        return await self._db.read(lambda reading: _size(self._db.path, reading))

    # All of it

    async def put_records(self, items: Sequence[Record]) -> int | None:
        self._db.refuse_when_full()
        item = record_rows.ImportCall(items, self._now())
        return await self._db.write(record_rows.put_records, item)

    # Health

    @property
    def trouble(self) -> StoreTrouble | None:
        return self._db.trouble

    @property
    def unreadable_count(self) -> int:
        return self._db.unreadable_count

    @property
    def internal_error_count(self) -> int:
        return self._db.internal_error_count

    async def recover(self) -> None:
        await self._db.recover()

    def _due_task_search(self, reading: Reading) -> due_tasks.DueTaskSearch:
        return due_tasks.DueTaskSearch(reading, self._db.cache, self._db.unreadable)

    def _unless_full(self, edit: Callable[[V | None], V | None]) -> Callable[[V | None], V | None]:
        """Return an edit that creates nothing new while the disk is full."""

        def checked(known: V | None) -> V | None:
            new = edit(known)
            if known is None and new is not None:
                self._db.refuse_when_full()
            return new

        return checked


def _size(path: Path | None, reading: Reading) -> StoreSize:
    if path is None:
        pages, size = reading.number("page_count"), reading.number("page_size")
        return StoreSize(used=pages * size, free=None)
    try:
        used = sum(file.stat().st_size for file in (path, wal_of(path)) if file.exists())
        free = free_bytes(path.parent)
    except OSError as exc:
        raise StoreUnavailable(f"the data folder cannot be accessed: {exc}") from exc
    return StoreSize(used=used, free=free)
