"""The contract that every kind of store keeps; ``tests/store/contract.py`` holds each to it.

A store knows states and leases, but neither HTTP nor retry rules. If a method takes ``now`` and
``confirmed``, rows are dated with ``now``, while expiry and retention use ``confirmed``, which is
``now`` by default: a clock that was just set ahead deletes nothing. Every method is atomic, and
many calls may share one commit: when a method that writes returns, its changes are on disk. Every
method may raise ``StoreUnavailable`` (``StoreFull`` if the disk is full). It has then changed
nothing, except after ``OutcomeUnknown``: only the next read shows whether it has.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from poussetaches.core.edits import Edit
from poussetaches.core.failure_group import FailureGroup
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import ClockRecord, Moment
from poussetaches.core.queue import BucketRecord, Lane, Queue, Retention
from poussetaches.core.responses import QueueCounts
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Move, Task, TaskState
from poussetaches.core.task_fields import DEFAULT_KEY_TTL
from poussetaches.store.export_records import Record
from poussetaches.store.minute_row import MinuteRow

# Called within a transaction, perhaps in another thread, and again if its commit failed: it must
# be pure and short. It may raise one of our errors to refuse.
QueueEdit = Callable[[Queue | None], Queue | None]
ScheduleEdit = Callable[[Schedule | None], Schedule | None]


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """A new task, and how a repeated push is handled."""

    task: Task
    key_ttl: float = DEFAULT_KEY_TTL  # seconds for which its key returns this task
    replaces: bool = False  # the waiting task with the same ``unique`` gets the new body


class PushResult(msgspec.Struct, frozen=True, gc=False):
    """The new or existing task of a push; ``task`` is None if it was pruned meanwhile."""

    task_id: str
    task: Task | None
    existing: bool


class Page(msgspec.Struct, frozen=True):
    """A page of tasks; ``after`` is where the next page begins, None at the end."""

    tasks: list[Task]
    after: int | None


class Selection(msgspec.Struct, frozen=True):
    """Some of the tasks that a filter selects, as numbers that identify them permanently."""

    numbers: Sequence[int]
    after: int | None


class Edited(msgspec.Struct, frozen=True):
    """The edits of one slice: how many were made, why others were not, and where it ends."""

    count: int
    skipped: dict[str, int]
    end: int


class FailureCount(msgspec.Struct, frozen=True, kw_only=True):
    """A failure group: the number of its tasks, their first and last failure, and an example."""

    group: FailureGroup
    count: int
    first_at: Moment
    last_at: Moment
    example_id: str


class LastUse(msgspec.Struct, frozen=True):
    """When a store was last in use; a field is None if there are no such rows."""

    pushed_at: Moment | None  # ``created_at`` of the task added last
    minute: Moment | None  # the start of the latest minute


class StoreSize(msgspec.Struct, frozen=True, kw_only=True):
    """The size of the store and the free space of its disk in bytes; None in memory."""

    used: int
    free: int | None


class Lease(msgspec.Struct, frozen=True):
    """The right to run a task; ``token`` distinguishes it from other leases of the same task."""

    task: Task
    token: int


class Leased(msgspec.Struct, frozen=True):
    """The result of ``lease_due``: the leases, and when each lane has its next task."""

    leases: list[Lease]
    next_due: dict[Lane, Moment | None]


class Finish(msgspec.Struct, frozen=True):
    """The end of an attempt: its lease, the move of its task, and the attempt to store."""

    lease: Lease
    move: Move
    attempt: Attempt | None = None  # None when the attempt does not count
    ended_at: Moment | None = None  # of a task that dies; None stands for ``now``


class SummaryPage(msgspec.Struct, frozen=True):
    """A page of the original's tasks; ``after`` is where the next one begins, None at the end."""

    tasks: list[TaskSummary]
    after: tuple[Moment, str] | None


class TaskSummary(msgspec.Struct, frozen=True):
    """A task with its last attempt and its last failed attempt."""

    task: Task
    last_attempt: Attempt | None
    last_failure: Attempt | None


class Change(StrEnum):
    """What happened to a task."""

    PUSHED = "pushed"
    STARTED = "started"  # leased; nothing is written for it
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # an attempt failed, and there will be another
    DIED = "died"  # attempts used up, expired, cancelled, superseded …
    PUT_BACK = "put_back"  # its attempt did not count
    EDITED = "edited"
    REQUEUED = "requeued"
    DELETED = "deleted"  # by a caller; pruning is not reported


class TaskChange(msgspec.Struct, frozen=True, gc=False):
    """A change of one task."""

    task_id: str
    queue: str
    change: Change
    state: TaskState | None  # None if it was deleted


@dataclass(slots=True)
class News:
    """The changes of one commit."""

    waits: dict[Lane, Moment] = field(default_factory=dict)  # lanes with a task, and its run_at
    tasks: list[TaskChange] = field(default_factory=list)
    queues: dict[str, Queue | None] = field(default_factory=dict)  # None for a deleted one
    groups: list[FailureGroup] = field(default_factory=list)  # new ones
    schedules_changed: bool = False
    paused: bool | None = None  # the server's own pause, if it changed
    trouble: bool = False  # nothing changed, but the store can no longer write


class Listener(Protocol):
    """Receives news of changes after their commit, and of leases after they were handed out."""

    def committed(self, news: News) -> None:
        """Process the news of a commit. Must be quick and never raise."""


class Store(Protocol):
    """Keeps tasks, attempts, queues and schedules."""

    async def open(self) -> None:
        """Open the store, and upgrade an older one.

        Raises:
            CannotOpenStore: it is in use, damaged, from a newer version, or not writable.
        """

    async def close(self) -> None:
        """Finish pending operations and release all resources. May be called twice."""

    def listen(self, listener: Listener) -> None:
        """Add a listener, which gets the news from now on."""

    # Tasks

    async def add(self, task: Task) -> None:
        """Store a new task, whose id must be new.

        An unknown queue is created.
        """

    def push(
        self, pushes: Sequence[Push], *, now: Moment, confirmed: Moment | None = None
    ) -> Future[list[PushResult]]:
        """Add new tasks, all or none; a repeated push returns the existing task.

        Errors are raised at once, or by the future. The tasks are stored even if the future is
        cancelled.

        A push repeats another of its queue if that one had the same ``key``, less than its
        ``key_ttl`` ago. It returns that task in any state, unless the task or its queue was
        deleted. A push with the ``unique`` of a waiting task of its queue returns that task, which
        gets the body and ``run_at`` of the push if it replaces. Running and ended tasks do not
        count.

        Raises:
            KeyConflict: the key was pushed with another URL, method or body (JSON bodies are
                compared as values); with the push's place.
            StoreBusy: too many pushes are waiting to be written; the caller should retry later.
        """

    async def restore(self, tasks: Sequence[tuple[Task, Sequence[Attempt]]]) -> int:
        """Store tasks with their attempts as they are, except tasks whose id exists.

        Returns the number of new tasks.
        """

    async def get(self, task_id: str) -> Task | None:
        """Return a task; a leased one is ``running``. None if there is no such task."""

    async def attempts(self, task_id: str) -> list[Attempt]:
        """Return the stored attempts of a task, oldest first."""

    async def tasks(self, filter: TaskFilter, *, after: int | None, limit: int) -> Page:
        """Return tasks that a filter selects, the one added last first, without their bodies.

        A page may have fewer than ``limit`` tasks, even none, although there are more: at most
        ``SCAN`` rows are examined for one page.
        """

    async def select(self, filter: TaskFilter, *, after: int | None, limit: int) -> Selection:
        """Return the numbers of tasks that a filter selects, with the limits of ``tasks``."""

    async def failures(self, state: TaskState) -> list[FailureCount]:
        """Return the groups of dead, or of failing (waiting or running) tasks, largest first."""

    async def count_ahead(self, task_id: str, *, now: Moment, limit: int) -> int:
        """Return the number of due tasks of its lane that come before a task, up to a limit."""

    # Edits

    async def edit(self, task_id: str, edit: Edit, *, now: Moment) -> Task | None:
        """Edit a task as ``edited`` does; return it, None when there is none.

        A deleted task is returned as it was. If it is running, it is hidden at once, and its
        outcome is dropped. Ends by an edit make their callbacks. What ``edited`` raises is raised
        here, and nothing is changed.

        Raises:
            EditFailed: an unexpected exception occurred; the task is unchanged.
            TaskNotWritten: the change could not be written; the task was buried or set aside.
        """

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
        """Edit some of the tasks that numbers stand for, if the filter still selects them.

        These are the tasks from the place ``start`` on, as many as one commit should take: at
        least one, fewer if they are large. The spread goes by the place among all numbers. Skipped
        tasks are counted by reason: the state for a ``StateConflict``, ``changed`` if the filter
        no longer selects the task, ``gone`` if it was deleted, ``failed`` after an internal error,
        otherwise the error's text. A dry run changes nothing, and counts the same.
        """

    async def list_enveloped(
        self, state: TaskState, *, after: tuple[Moment, str] | None, limit: int
    ) -> SummaryPage:
        """Return tasks pushed in the original's envelope, earliest ``run_at`` first, then by id.

        A page of large tasks may end before the limit. Waiting includes running. Runs of
        schedules are not among the waiting tasks.
        """

    # Dispatch

    async def lease_due(
        self, lanes: Mapping[Lane, int], *, now: Moment, skip_expired: bool = False
    ) -> Leased:
        """Lease up to the given number of due tasks of each lane, highest priority first.

        A task is due when it is waiting and ``run_at <= now``. Within a priority, the earliest
        ``run_at`` comes first, then the task added first. No task is ever leased twice at once.
        With ``skip_expired``, tasks past their ``expires_at`` are skipped.
        For each requested lane, ``next_due`` is the time when its next task that is not leased is
        due, None if there is none.
        """

    async def next_due(self) -> dict[Lane, Moment]:
        """Return when each lane has its next waiting task that is not leased."""

    async def lanes_used_since(self, moment: Moment) -> list[Lane]:
        """Return the lanes that had a task added since a moment, to within an hour."""

    async def pull_back(self, *, now: Moment, was: Moment, confirmed: Moment) -> int:
        """Correct ``run_at`` after the clock was set back from ``was`` to ``now``.

        Of the tasks with a ``run_at`` after ``now``, two kinds become due at once: tasks pushed
        without a delay, and tasks that were due at ``was`` and were pushed after ``now``, run
        manually, or requeued. If an attempt failed after ``confirmed``, the clock was wrong, and
        the delay before the retry starts at ``now``. Other tasks stay unchanged. Returns the
        number of changed tasks.
        """

    async def finish(self, finishes: Sequence[Finish], *, now: Moment) -> list[bool]:
        """End attempts: record each, move its task, and end its lease.

        Returns for each whether its lease was still valid; if not, nothing is changed for it. The
        last attempt keeps its whole response, the one before it is cut to ``EARLIER_RESPONSE``
        bytes. A task that was cancelled while it ran is dead instead of waiting for a retry. A
        task that ends creates its callback in the same commit, in every method that ends one.
        """

    async def give_back(self, lease: Lease, *, now: Moment, error: str | None = None) -> bool:
        """End a lease without an attempt: the task waits as before, due when it was due.

        An ``error`` becomes the task's last one. If the clock was set back meanwhile, the task is
        due at once, unless its push asked for a delay or a ``run_at``. A task that was cancelled
        while it ran is dead. If none of this changes the task, nothing is written: it costs no
        commit. Returns whether the lease was still valid; if not, nothing is changed.
        """

    # Queues

    async def queues(self) -> dict[str, Queue]:
        """Return every queue by its name; ``default`` is always among them."""

    async def edit_queue(self, name: str, edit: QueueEdit) -> Queue | None:
        """Replace a queue (None if it does not exist) by the result of ``edit``; return it.

        Raises:
            QueueInUse: it would be deleted, but has tasks of any state.
        """

    async def buckets(self) -> dict[str, BucketRecord]:
        """Return the stored token buckets by queue, which may include deleted queues."""

    async def keep_buckets(self, buckets: Mapping[str, BucketRecord]) -> None:
        """Store when the buckets of queues are full again; ``tidy`` deletes full ones."""

    # Schedules

    async def edit_schedule(
        self, name: str, edit: ScheduleEdit, *, now: Moment
    ) -> Schedule | None:
        """Replace a schedule (None if it does not exist) by the result of ``edit``; return it.

        Deleting a schedule deletes its waiting runs and cancels a running one: its attempt ends
        and is not repeated.

        Raises:
            TooMany: there are ``MAX_SCHEDULES``.
        """

    async def replace_schedules(
        self, owner: str, version: int | None, schedules: Sequence[Schedule], *, now: Moment
    ) -> None:
        """Replace an owner's schedules by these, each as ``redeclared`` returns it.

        Raises:
            OwnedByAnother: a name belongs to a schedule of another owner, or without one.
            OlderVersion: a later version was stored already.
            TooMany: there would be more than ``MAX_SCHEDULES``.
        """

    async def schedule(self, name: str) -> Schedule | None:
        """Return a schedule; None if there is none with this name."""

    async def schedules(self, owner: str | None) -> list[Schedule]:
        """Return an owner's schedules, all of them for None, earliest ``next_run_at`` first."""

    async def due_schedules(self, now: Moment) -> list[Schedule]:
        """Return the schedules with ``next_run_at <= now`` that are not paused."""

    async def stranded_schedules(self, after: Moment) -> list[Schedule]:
        """Return the schedules that were created or last fired after a moment."""

    async def next_schedule_at(self) -> Moment | None:
        """Return when the next schedule that is not paused is due; None if there is none."""

    async def fire(self, schedule: Schedule, run: Task, *, now: Moment) -> bool:
        """Advance a schedule and add this run of it, unless its last run blocks that.

        The schedule is given in its advanced state. With ``overlap`` *skip*, a last run blocks
        if it is running or has not had its first attempt; one that waits for a retry dies as
        *superseded*. With *allow*, ``MAX_RUNS`` unfinished runs block. A schedule that was
        deleted, is paused, was changed so that it is not due yet, or has already fired this
        occurrence (``last_fired_at``) stays unchanged. Returns whether the run was added.
        """

    async def fire_by_hand(self, name: str, run: Task) -> bool:
        """Add a run to a schedule regardless of its times and last run; False if it is deleted."""

    async def move_schedule(self, schedule: Schedule) -> None:
        """Store a schedule's moments, unless it was deleted.

        If it skips an occurrence (``last_fired_at``), but was changed meanwhile so that it
        is not due then, it stays unchanged.
        """

    async def latest_runs(self, schedules: Sequence[str]) -> dict[str, TaskSummary]:
        """Return the latest run of each named schedule that still has one."""

    async def delete_schedules(self, owner: str, *, now: Moment) -> int:
        """Delete an owner's schedules and their waiting runs; return the number of schedules.

        A run that is running is cancelled: its attempt ends and is not repeated.
        """

    # The server's own pause

    async def paused(self) -> bool:
        """Return whether the server is paused."""

    async def set_paused(self, paused: bool) -> None:
        """Pause or resume the server."""

    # Maintenance

    async def tidy(self, *, now: Moment, limit: int, confirmed: Moment | None = None) -> int:
        """Delete up to ``limit`` unneeded rows of each kind; return the number of deleted rows.

        These are expired keys; lanes without waiting tasks, and queues without tasks, settings
        and pause, unused for a day (``default`` stays); minute rows over a day old; failure
        groups without tasks; buckets that are full.
        """

    async def expire(self, *, now: Moment, limit: int, confirmed: Moment | None = None) -> int:
        """Bury up to ``limit`` waiting tasks past their ``expires_at``; return their number.

        It is smaller for large tasks, but at least one if there are any. Leased tasks are not
        buried.
        """

    async def next_expiry(self) -> Moment | None:
        """Return the earliest ``expires_at`` of all waiting tasks; None if none expires."""

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
        """Delete up to ``limit`` of a queue's ended tasks, the earliest ended first.

        Tasks older than ``keep.age``, or in excess of ``keep.count``, are deleted. Returns their
        number, which is smaller for large tasks, but at least one if there are any.
        """

    async def shrink(self) -> bool:
        """Return the space of deleted rows to the disk, a bounded amount per call.

        Returns whether there may be more.
        """

    async def counts(self) -> dict[str, QueueCounts]:
        """Return every queue with its counts."""

    # The clock

    async def clock(self) -> ClockRecord | None:
        """Return the stored clock record; None if there is none."""

    async def keep_clock(self, record: ClockRecord) -> None:
        """Store the clock record, for the next start."""

    async def last_use(self) -> LastUse:
        """Return when the store was last in use, derived from its rows."""

    # Statistics

    async def put_minutes(self, rows: Sequence[MinuteRow]) -> None:
        """Store the statistics of minutes; existing rows are replaced."""

    async def minutes(self, queue: str, *, since: Moment) -> list[MinuteRow]:
        """Return the rows of a queue (``""`` for all queues) from a moment on, oldest first."""

    async def size(self) -> StoreSize:
        """Return the size of the store and the free space of its disk."""

    # Import

    async def put_records(self, records: Sequence[Record]) -> int | None:
        """Insert records of an export into a store that was new before the first of them.

        Returns the index of the first task whose id exists already, or None; this record and the
        ones after it were not inserted.
        """

    # Health

    @property
    def trouble(self) -> StoreTrouble | None:
        """The error that keeps the store from writing; None if it can write."""

    @property
    def unreadable_count(self) -> int:
        """The number of rows that were set aside since the store was opened."""

    @property
    def internal_error_count(self) -> int:
        """The number of rows that could not be processed since the store was opened.

        In every method that writes, an exception at a row affects only that row: a task dies
        with the reason *internal_error*, or its row is set aside; a schedule is paused.
        """

    async def recover(self) -> None:
        """Try to recover from trouble; return once the store can be written again.

        Raises:
            StoreUnavailable: it still cannot.
        """


class StoreTrouble(msgspec.Struct, frozen=True):
    """The reason why the store cannot be written."""

    reason: str
    full: bool
    damaged: bool = False


EARLIER_RESPONSE = 2048  # bytes of a response that are kept after a later attempt
MAX_ATTEMPTS_KEPT = 100  # for one task: the first and the last fifty
SCAN = 20_000  # rows examined for one page of a list: keeps each read short
