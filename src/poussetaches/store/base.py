"""The contract that every kind of store keeps; ``tests/store/contract.py`` holds each to it.

A store knows states and leases, and nothing of HTTP or of when to try again. Every method is
atomic, and many calls may share one commit: when a method that writes returns, it is on disk.
All of them raise ``StoreUnavailable`` (``StoreFull`` when the disk is full) and have then
changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane, QueueCounts, Retention
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Move, Task, TaskState


class Lease(msgspec.Struct, frozen=True):
    """The right to run a task; ``token`` tells it from every other lease of that task."""

    task: Task
    token: int


class Leased(msgspec.Struct, frozen=True):
    """What ``lease_due`` handed out, and when each lane asked for has its next task."""

    leases: list[Lease]
    next_due: dict[Lane, Moment | None]


class Finish(msgspec.Struct, frozen=True):
    """How an attempt ended: the lease, what follows, and what to keep of the attempt."""

    lease: Lease
    move: Move
    attempt: Attempt | None = None  # None when the attempt does not count


class TaskPage(msgspec.Struct, frozen=True):
    """Some of a list of tasks, and where to go on; ``after`` is None at the end."""

    tasks: list[TaskSummary]
    after: tuple[Moment, str] | None


class TaskSummary(msgspec.Struct, frozen=True):
    """A task with its last attempt, and the last one that failed."""

    task: Task
    last_attempt: Attempt | None
    last_failure: Attempt | None


class Listener(Protocol):
    """Who is told, after the commit, of what the engine must look at."""

    def task_waits(self, lane: Lane, run_at: Moment) -> None:
        """Take note that a task of this lane waits, due at this moment."""

    def schedules_changed(self) -> None:
        """Take note that a schedule was made or changed, or is gone."""

    def pause_changed(self, paused: bool) -> None:
        """Take note that the server was paused or resumed."""


class Store(Protocol):
    """Keeps tasks, attempts, queues and schedules."""

    async def open(self) -> None:
        """Make the store ready, bringing an older one up to date.

        Raises:
            CannotOpenStore: it is in use, damaged, from a newer version, or not writable.
        """

    async def close(self) -> None:
        """Finish what was begun and release everything. May be called twice."""

    def listen(self, listener: Listener) -> None:
        """Tell the listener of changes from now on."""

    # Tasks

    async def add(self, task: Task) -> None:
        """Keep a new task. The caller gives it an id that no task has."""

    async def restore(self, tasks: Sequence[tuple[Task, Sequence[Attempt]]]) -> int:
        """Keep tasks with their attempts as they are; those whose id is known are left alone.

        Returns how many were new.
        """

    async def get(self, task_id: str) -> Task | None:
        """Return a task; one that is leased is ``running``. None when there is no such task."""

    async def attempts(self, task_id: str) -> list[Attempt]:
        """Return the attempts kept of a task, oldest first."""

    async def list_enveloped(
        self, state: TaskState, *, after: tuple[Moment, str] | None, limit: int
    ) -> TaskPage:
        """Return tasks pushed in the original's envelope, earliest ``run_at`` first, then by id.

        Waiting includes running. Runs of schedules are left out of the waiting ones.
        """

    # Dispatch

    async def lease_due(self, lanes: Mapping[Lane, int], *, now: Moment) -> Leased:
        """Lease up to the given number of due tasks of each lane, highest priority first.

        A task is due when it is waiting and ``run_at <= now``; among equals the earliest
        ``run_at`` comes first, then the one added first. No task is ever leased twice at once.
        For each lane asked for, ``next_due`` says when its next task that is not leased is due,
        None when there is none.
        """

    async def next_due(self) -> dict[Lane, Moment]:
        """Return every lane with waiting tasks that are not leased, and when the next is due."""

    async def lanes_used_since(self, moment: Moment) -> list[Lane]:
        """Return the lanes that had a task added since a moment, to within an hour."""

    async def finish(self, finish: Finish, *, now: Moment) -> bool:
        """End an attempt: record it, move its task, and give up the lease.

        Returns whether the lease was still ours; if not, nothing is changed. The last attempt
        keeps its whole response, the one before it is cut to ``EARLIER_RESPONSE`` bytes. A task
        that was cancelled while it ran is dead in place of being tried again.
        """

    # Schedules

    async def put_schedule(self, schedule: Schedule) -> bool:
        """Keep a schedule unless one of this name is known; tell whether it is new."""

    async def schedules(self, owner: str) -> list[Schedule]:
        """Return an owner's schedules, earliest ``next_run_at`` first."""

    async def due_schedules(self, now: Moment) -> list[Schedule]:
        """Return the schedules with ``next_run_at <= now``."""

    async def stranded_schedules(self, after: Moment) -> list[Schedule]:
        """Return the schedules that were made, or last fired, later than this moment."""

    async def next_schedule_at(self) -> Moment | None:
        """Return when the next schedule is due, None when there is none."""

    async def fire(self, schedule: Schedule, run: Task, *, now: Moment) -> bool:
        """Advance a schedule and add this run of it, unless the last run stands in its way.

        The schedule is given as it is to be kept afterwards. A last run that is running, or
        that has not had its first attempt, stands in the way; one that waits for a retry dies
        as *superseded*. A schedule that is gone, or has since fired this occurrence, is left
        as it is. Returns whether the run was added.
        """

    async def move_schedule(self, schedule: Schedule) -> None:
        """Keep a schedule's moments as given; one that is gone stays gone."""

    async def latest_runs(self, schedules: Sequence[str]) -> dict[str, TaskSummary]:
        """Return the latest run of each schedule named that still has one."""

    async def delete_schedules(self, owner: str, *, now: Moment) -> int:
        """Delete an owner's schedules and their waiting runs; tell how many schedules.

        A run that is running is cancelled: its attempt ends and is not repeated.
        """

    # The server's own pause

    async def paused(self) -> bool:
        """Tell whether the server is paused."""

    async def set_paused(self, paused: bool) -> None:
        """Pause or resume the server."""

    # Maintenance

    async def expire(self, *, now: Moment, limit: int) -> int:
        """Bury up to ``limit`` waiting tasks past their ``expires_at``; tell how many.

        Leased ones are left to their attempt.
        """

    async def prune(
        self, queue: str, state: TaskState, keep: Retention, *, now: Moment, limit: int
    ) -> int:
        """Delete up to ``limit`` of a queue's ended tasks, those that ended first.

        What is older than ``keep.age``, or too many for ``keep.count``, goes. Tells how many.
        """

    async def shrink(self) -> None:
        """Give room that deleted rows left back to the disk, a bounded piece of work."""

    async def counts(self) -> dict[str, QueueCounts]:
        """Return every queue with its counts."""

    # Health

    @property
    def trouble(self) -> StoreTrouble | None:
        """What keeps the store from writing, None when the last write went well."""

    @property
    def unreadable_count(self) -> int:
        """How many rows were set aside since the store was opened."""

    async def recover(self) -> None:
        """Try to get out of trouble; return when the store can be written again.

        Raises:
            StoreUnavailable: not yet.
        """


class StoreTrouble(msgspec.Struct, frozen=True):
    """Why the store cannot be written."""

    reason: str
    full: bool


EARLIER_RESPONSE = 2048  # bytes kept of an answer when a later one comes
MAX_ATTEMPTS_KEPT = 100  # for one task: the first and the last fifty
