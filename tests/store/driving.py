"""Steps that many tests of the store take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from poussetaches.core.changes import Changes
from poussetaches.core.edits import Edit, Patch
from poussetaches.core.failure_group import FailureGroup
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane, Queue
from poussetaches.core.responses import QueueCounts
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Complete, Move, Task, TaskState
from poussetaches.store.base import Change, Finish, Lease, News, Store, TaskSummary
from tests.factories import NOW, make_attempt, make_schedule, make_task

LANE = make_task().lane
EVERYTHING = TaskFilter()
ELSEWHERE = "http://elsewhere.test/"


class GiveBack(NamedTuple):
    """Instead of a move: the attempt does not count."""

    error: str | None = None


class Notes:
    """A listener that records all changes."""

    def __init__(self) -> None:
        self.news: list[News] = []

    def committed(self, news: News) -> None:
        """Note what a commit changed."""
        self.news.append(news)

    @property
    def waits(self) -> list[tuple[Lane, Moment]]:
        """The lanes with a waiting task, and when it is due."""
        return [wait for news in self.news for wait in news.waits.items()]

    @property
    def changes(self) -> list[tuple[str, Change, TaskState | None]]:
        """The changes of tasks, by id."""
        return [
            (told.task_id, told.change, told.state) for news in self.news for told in news.tasks
        ]

    @property
    def schedule_changes(self) -> int:
        """The number of commits that changed schedules."""
        return sum(news.schedules_changed for news in self.news)

    @property
    def pauses(self) -> list[bool]:
        """Whether the server is paused, at each change."""
        return [news.paused for news in self.news if news.paused is not None]

    @property
    def queues(self) -> dict[str, Queue | None]:
        """The changed queues with their new values."""
        return {name: queue for news in self.news for name, queue in news.queues.items()}

    @property
    def groups(self) -> list[FailureGroup]:
        """The new failure groups."""
        return [group for news in self.news for group in news.groups]


def changed(**fields: object) -> Edit:
    """Return an edit that replaces fields of a waiting or dead task."""
    return Patch(Changes(fields=fields))


async def edit_all(
    store: Store, numbers: Sequence[int], edit: Edit, *, filter: TaskFilter = EVERYTHING
) -> tuple[int, dict[str, int]]:
    """Edit the tasks with these numbers; return how many, and the reasons of the others."""
    count, skipped, place = 0, Counter[str](), 0
    while place < len(numbers):
        edited = await store.edit_slice(numbers, edit, start=place, filter=filter, now=NOW)
        assert edited.end > place
        count, place = count + edited.count, edited.end
        skipped.update(edited.skipped)
    return count, dict(skipped)


async def put_schedule(store: Store, schedule: Schedule) -> bool:
    """Store a schedule unless its name exists; return whether it is new."""
    known: list[Schedule | None] = []

    def keep(found: Schedule | None) -> Schedule:
        known[:] = [found]
        return found or schedule

    await store.edit_schedule(schedule.name, keep, now=NOW)
    return known == [None]


async def lease_all(store: Store, *, now: Moment = NOW) -> dict[str, Lease]:
    """Lease everything that is due, and return the leases by the tasks' ids, in their order."""
    lanes = dict.fromkeys(await store.next_due(), 1000)
    leased = await store.lease_due(lanes, now=now)
    return {lease.task.id: lease for lease in leased.leases}


async def lease_one(store: Store, *, now: Moment = NOW) -> Lease:
    """Lease the only task that is due."""
    leases = await lease_all(store, now=now)
    assert len(leases) == 1, f"leased: {list(leases)}"
    return next(iter(leases.values()))


def finish_of(lease: Lease, move: Move, **attempt: object) -> Finish:
    """Return the end of an attempt that counts; only ``Complete`` means success."""
    succeeded = isinstance(move, Complete)
    status = 200 if succeeded else 500
    number = lease.task.attempt_count + 1
    overrides = {"succeeded": succeeded, "status": status, **attempt}
    return Finish(lease, move, make_attempt(number, **overrides))


async def end(store: Store, lease: Lease, move: Move | GiveBack, *, now: Moment = NOW) -> bool:
    """End an attempt, which counts unless its lease is given back."""
    if isinstance(move, GiveBack):
        return await store.give_back(lease, now=now, error=move.error)
    [was_valid] = await store.finish([finish_of(lease, move)], now=now)
    return was_valid


async def known(store: Store, task_id: str) -> Task:
    """Return a task that must exist."""
    task = await store.get(task_id)
    assert task is not None, f"no task {task_id}"
    return task


async def listed(store: Store, state: TaskState, *, limit: int = 1000) -> list[TaskSummary]:
    """Return all pages of a list as one."""
    found: list[TaskSummary] = []
    page = await store.list_enveloped(state, after=None, limit=limit)
    found += page.tasks
    while page.after is not None:
        page = await store.list_enveloped(state, after=page.after, limit=limit)
        found += page.tasks
    return found


async def found_by(store: Store, filter: TaskFilter, *, limit: int = 1000) -> list[str]:
    """Return the ids of the tasks that a filter selects, page by page."""
    found: list[str] = []
    after: int | None = None
    while True:
        page = await store.tasks(filter, after=after, limit=limit)
        found += [task.id for task in page.tasks]
        after = page.after
        if after is None:
            return found


async def numbers_of(store: Store, filter: TaskFilter, *, limit: int = 1000) -> list[int]:
    """Return the numbers of the tasks that a filter selects, page by page."""
    found: list[int] = []
    after: int | None = None
    while True:
        selection = await store.select(filter, after=after, limit=limit)
        found += selection.numbers
        after = selection.after
        if after is None:
            return found


def ids_of(summaries: Iterable[TaskSummary]) -> list[str]:
    """Return the ids of listed tasks, in order."""
    return [summary.task.id for summary in summaries]


def counted(tasks: Iterable[Task | None]) -> dict[str, QueueCounts]:
    """Count tasks one by one; queues without any are left out."""
    counts: dict[str, dict[str, int]] = {}
    for task in tasks:
        if task is None:
            continue
        queue = counts.setdefault(task.queue, {})
        queue[task.state.value] = queue.get(task.state.value, 0) + 1
        if task.ended_at is None and task.attempt_count:
            queue["failing"] = queue.get("failing", 0) + 1
    return {name: QueueCounts(**values) for name, values in counts.items()}


async def counts_of(store: Store) -> dict[str, QueueCounts]:
    """Return the counts that the store keeps, without empty queues."""
    return {
        name: counts for name, counts in (await store.counts()).items() if counts != QueueCounts()
    }


async def assert_counts_are_true(store: Store, ids: Sequence[str]) -> None:
    """Compare the store's counts with the tasks of these ids, which must be all."""
    assert await counts_of(store) == counted([await store.get(task_id) for task_id in ids])


def fired(schedule: Schedule, occurrence: Moment = NOW) -> Schedule:
    """Return a schedule as it is stored after an occurrence."""
    return make_schedule(
        schedule.name,
        owner=schedule.owner,
        anchor_at=schedule.anchor_at,
        overlap=schedule.overlap,
        last_fired_at=occurrence,
        next_run_at=Moment(occurrence + 3_600_000_000),
    )


async def fire(store: Store, schedule: Schedule, run_id: str, *, occurrence: Moment = NOW) -> bool:
    """Fire a schedule; its run is due at the occurrence."""
    run = make_task(run_id, schedule=schedule.name, run_at=occurrence)
    return await store.fire(fired(schedule, occurrence), run, now=occurrence)
