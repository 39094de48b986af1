"""The contract that every kind of store keeps; ``tests/store/contract.py`` holds each to it.

A store knows states and leases, but neither HTTP nor retry rules. If a method takes ``now`` and
``confirmed``, rows are dated with ``now``, and expiry and retention go by ``confirmed``, which is
``now`` by default: a clock that was just set ahead deletes nothing. Every method is
atomic, and many calls may share one commit: when a method that writes returns, it is on disk.
All of them raise ``StoreUnavailable`` (``StoreFull`` when the disk is full) and have then
changed nothing, except for ``OutcomeUnknown``: only the next read shows whether they have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from poussetaches.core.edits import Edit
from poussetaches.core.failures import FailureGroup
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import ClockRecord, Moment
from poussetaches.core.queue import BucketRecord, Lane, Queue, QueueCounts, Retention
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Move, Task, TaskState
from poussetaches.store.export_records import Record
from poussetaches.store.minute_row import MinuteRow

# Called in the thread that writes, within a transaction, and again if its commit failed: it must
# be pure and short. It may raise one of our errors to refuse.
QueueEdit = Callable[[Queue | None], Queue | None]
ScheduleEdit = Callable[[Schedule | None], Schedule | None]


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """A new task, and what to do when it was pushed before."""

    task: Task
    key_ttl: float = 86_400.0  # seconds for which the task's key stands for it
    replaces: bool = False  # the waiting task with the same ``unique`` gets the new body


class Pushed(msgspec.Struct, frozen=True, gc=False):
    """The task that a push came to; ``task`` is None when it was pruned since."""

    task_id: str
    task: Task | None
    existing: bool


class Page(msgspec.Struct, frozen=True):
    """Some of a list of tasks, and where to go on; ``after`` is None at the end."""

    tasks: list[Task]
    after: int | None


class Selection(msgspec.Struct, frozen=True):
    """Some of the tasks that a filter selects, as numbers that stand for them for good."""

    numbers: Sequence[int]
    after: int | None


class Edited(msgspec.Struct, frozen=True):
    """The edits of one slice: how many were made, why others were not, and where it ends."""

    count: int
    skipped: dict[str, int]
    end: int


class FailureCount(msgspec.Struct, frozen=True, kw_only=True):
    """A failure group with its tasks: how many, since when, and one of them."""

    group: FailureGroup
    count: int
    first_at: Moment
    last_at: Moment
    example_id: str


class LastUse(msgspec.Struct, frozen=True):
    """When a store was last in use; a field is None if there are no such rows."""

    pushed_at: Moment | None  # ``created_at`` of the task added last
    minute: Moment | None  # the start of the latest minute, in whatever order they were added


class StoreSize(msgspec.Struct, frozen=True, kw_only=True):
    """How many bytes the store takes, and how many are free on its disk; None in memory."""

    used: int
    free: int | None


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
    ended_at: Moment | None = None  # of a task that dies; None stands for ``now``


class SummaryPage(msgspec.Struct, frozen=True):
    """Some of the original's list of tasks, and where to go on; ``after`` is None at the end."""

    tasks: list[TaskSummary]
    after: tuple[Moment, str] | None


class TaskSummary(msgspec.Struct, frozen=True):
    """A task with its last attempt, and the last one that failed."""

    task: Task
    last_attempt: Attempt | None
    last_failure: Attempt | None


class Change(StrEnum):
    """What happened to a task."""

    PUSHED = "pushed"
    STARTED = "started"  # leased; nothing is written for it
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # an attempt did, and there will be another
    DIED = "died"  # whatever for: attempts used up, expired, cancelled, superseded
    PUT_BACK = "put_back"  # its attempt did not count
    EDITED = "edited"
    REQUEUED = "requeued"
    DELETED = "deleted"  # by somebody; pruning is no news


class TaskChange(msgspec.Struct, frozen=True, gc=False):
    """A task, and what happened to it."""

    task_id: str
    queue: str
    change: Change
    state: TaskState | None  # None when it is gone


@dataclass(slots=True)
class News:
    """What one commit changed."""

    waits: dict[Lane, Moment] = field(default_factory=dict)  # lanes with a task, and its run_at
    tasks: list[TaskChange] = field(default_factory=list)
    queues: dict[str, Queue | None] = field(default_factory=dict)  # None for one that is gone
    groups: list[FailureGroup] = field(default_factory=list)  # that were not known before
    schedules_changed: bool = False
    paused: bool | None = None  # the server's own pause, when it was changed
    trouble: bool = False  # nothing was changed: the store has become unable to write


class Listener(Protocol):
    """Who is told of changes, after their commit; of leases, once they are given out."""

    def committed(self, news: News) -> None:
        """Take note of what a commit changed. Quick, and never raises."""


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
        """Tell one more listener of changes from now on."""

    # Tasks

    async def add(self, task: Task) -> None:
        """Keep a new task. The caller gives it an id that no task has.

        Queues that are not known are made.
        """

    async def push(
        self, pushes: Sequence[Push], *, now: Moment, confirmed: Moment | None = None
    ) -> list[Pushed]:
        """Add new tasks, all or none; a repeated push returns the existing task.

        A push repeats another of its queue if that one had the same ``key``, less than its
        ``key_ttl`` ago. It returns that task in any state, unless the task or its queue was
        deleted. A push with the ``unique`` of a waiting task of its queue returns that task, which
        gets the body and ``run_at`` of the push if it replaces. Running and ended tasks do not
        count.

        Raises:
            KeyConflict: the key was pushed with another URL, method or body (JSON bodies are
                compared as values); with the push's place.
            StoreBusy: more waits to be written than the disk can take at the moment.
        """

    async def restore(self, tasks: Sequence[tuple[Task, Sequence[Attempt]]]) -> int:
        """Keep tasks with their attempts as they are; those whose id is known are left alone.

        Returns how many were new.
        """

    async def get(self, task_id: str) -> Task | None:
        """Return a task; one that is leased is ``running``. None when there is no such task."""

    async def attempts(self, task_id: str) -> list[Attempt]:
        """Return the attempts kept of a task, oldest first."""

    async def tasks(self, filter: TaskFilter, *, after: int | None, limit: int) -> Page:
        """Return tasks that a filter selects, the one added last first, without their bodies.

        A page may have fewer than ``limit`` tasks, even none, though there are more: no more
        than ``SCAN`` rows are looked at for one page.
        """

    async def select(self, filter: TaskFilter, *, after: int | None, limit: int) -> Selection:
        """Return what stands for tasks that a filter selects, in the manner of ``tasks``."""

    async def failures(self, state: TaskState) -> list[FailureCount]:
        """Return the groups of dead, or of failing (waiting or running) tasks, largest first."""

    async def count_ahead(self, task_id: str, *, now: Moment, limit: int) -> int:
        """Return how many due tasks of its lane come before a task, up to a limit."""

    # Edits

    async def edit(self, task_id: str, edit: Edit, *, now: Moment) -> Task | None:
        """Edit a task as ``edited`` does; return it, None when there is none.

        A deleted task is returned as it was. If it is running, it is hidden at once, and its
        outcome is dropped. Ends by an edit make their callbacks. What ``edited`` raises is raised
        here, and nothing is changed.

        Raises:
            EditFailed: an unexpected exception occurred; the task is unchanged.
            TaskFailed: the change could not be written; the task was buried or set aside.
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
        schedules are left out of the waiting ones.
        """

    # Dispatch

    async def lease_due(
        self, lanes: Mapping[Lane, int], *, now: Moment, skip_expired: bool = False
    ) -> Leased:
        """Lease up to the given number of due tasks of each lane, highest priority first.

        A task is due when it is waiting and ``run_at <= now``; among equals the earliest
        ``run_at`` comes first, then the one added first. No task is ever leased twice at once.
        With ``skip_expired``, tasks past their ``expires_at`` are skipped.
        For each lane asked for, ``next_due`` says when its next task that is not leased is due,
        None when there is none.
        """

    async def next_due(self) -> dict[Lane, Moment]:
        """Return every lane with waiting tasks that are not leased, and when the next is due."""

    async def lanes_used_since(self, moment: Moment) -> list[Lane]:
        """Return the lanes that had a task added since a moment, to within an hour."""

    async def pull_back(self, *, now: Moment, was: Moment, confirmed: Moment) -> int:
        """Correct ``run_at`` after the clock was set back from ``was`` to ``now``.

        Of the tasks with a ``run_at`` after ``now``, those become due at once that were pushed
        without a delay, and those that were due at ``was`` and were pushed after ``now``, told to
        run, or requeued. If an attempt failed after ``confirmed``, the clock was wrong, and the
        delay before the retry starts at ``now``. Other tasks stay unchanged. Returns how many
        tasks were changed.
        """

    async def finish(self, finish: Finish, *, now: Moment) -> bool:
        """End an attempt: record it, move its task, and give up the lease.

        Returns whether the lease was still ours; if not, nothing is changed. The last attempt
        keeps its whole response, the one before it is cut to ``EARLIER_RESPONSE`` bytes. A task
        that was cancelled while it ran is dead in place of being tried again. A task that ends
        makes its callback in the same commit, in every method that ends one.
        """

    async def give_back(self, lease: Lease, *, now: Moment, error: str | None = None) -> bool:
        """Give up a lease without an attempt: the task waits as before, due when it was due.

        An ``error`` becomes the task's last one. If the clock was set back meanwhile, the task is
        due at once, unless its push asked for a delay or a ``run_at``. A task that was cancelled
        while it ran is dead. If none of this changes the task, nothing is written: it costs no
        commit. Returns whether the lease was still ours; if not, nothing is changed.
        """

    # Queues

    async def queues(self) -> dict[str, Queue]:
        """Return every queue by its name; ``default`` is always among them."""

    async def edit_queue(self, name: str, edit: QueueEdit) -> Queue | None:
        """Put a queue in the place of what it is now (None when there is none); return it.

        Raises:
            QueueInUse: it would be deleted, and has tasks, whatever their state.
        """

    async def buckets(self) -> dict[str, BucketRecord]:
        """Return the stored token buckets by queue, which may include deleted queues."""

    async def keep_buckets(self, buckets: Mapping[str, BucketRecord]) -> None:
        """Store when the buckets of queues are full again; ``tidy`` deletes those that are."""

    # Schedules

    async def edit_schedule(
        self, name: str, edit: ScheduleEdit, *, now: Moment
    ) -> Schedule | None:
        """Put a schedule in the place of what it is now (None when there is none); return it.

        One that is deleted takes its waiting runs along; a run that is running is cancelled:
        its attempt ends and is not repeated.

        Raises:
            TooMany: there are ``MAX_SCHEDULES``.
        """

    async def replace_schedules(
        self, owner: str, version: int | None, schedules: Sequence[Schedule], *, now: Moment
    ) -> None:
        """Keep these schedules, and no others, for an owner; each as ``redefined`` has it.

        Raises:
            OwnedByAnother: a name belongs to a schedule of another owner, or of none.
            OlderVersion: a later version was kept already.
            TooMany: there would be more than ``MAX_SCHEDULES``.
        """

    async def schedule(self, name: str) -> Schedule | None:
        """Return a schedule; None when there is none of this name."""

    async def schedules(self, owner: str | None) -> list[Schedule]:
        """Return an owner's schedules, all of them for None, earliest ``next_run_at`` first."""

    async def due_schedules(self, now: Moment) -> list[Schedule]:
        """Return the schedules with ``next_run_at <= now``, and not paused."""

    async def stranded_schedules(self, after: Moment) -> list[Schedule]:
        """Return the schedules that were made, or last fired, later than this moment."""

    async def next_schedule_at(self) -> Moment | None:
        """Return when the next schedule that is not paused is due, None when there is none."""

    async def fire(self, schedule: Schedule, run: Task, *, now: Moment) -> bool:
        """Advance a schedule and add this run of it, unless the last run stands in its way.

        The schedule is given as it is to be kept afterwards. With ``overlap`` *skip*, a last
        run that is running, or that has not had its first attempt, stands in the way; one that
        waits for a retry dies as *superseded*. With *allow*, ``MAX_RUNS`` unfinished runs stand
        in the way. A schedule that is gone, is paused, was changed so that it is not due yet,
        or has since fired this occurrence (``last_fired_at``) is left as it is. Returns whether
        the run was added.
        """

    async def fire_by_hand(self, name: str, run: Task) -> bool:
        """Add a run to a schedule, whatever its times and its last run; False when it is gone."""

    async def move_schedule(self, schedule: Schedule) -> None:
        """Keep a schedule's moments as given; one that is gone stays gone.

        One that leaves an occurrence behind (``last_fired_at``), and was changed meanwhile so
        that it is not due then, is left as it is.
        """

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

    async def tidy(self, *, now: Moment, limit: int, confirmed: Moment | None = None) -> int:
        """Delete up to ``limit`` unneeded rows of each kind; return how many.

        These are keys past their time; lanes without waiting tasks, and queues without any
        tasks that nobody configured or paused, unused for a day (``default`` stays); minute
        rows over a day old; failure groups without tasks; buckets that are full.
        """

    async def expire(self, *, now: Moment, limit: int, confirmed: Moment | None = None) -> int:
        """Bury up to ``limit`` waiting tasks past their ``expires_at``; return how many.

        Fewer when they are large, but one at least while there are any. Leased ones are left
        to their attempt.
        """

    async def next_expiry(self) -> Moment | None:
        """Return the earliest ``expires_at`` of all waiting tasks, None when none expires."""

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
        """Delete up to ``limit`` of a queue's ended tasks, those that ended first.

        What is older than ``keep.age``, or too many for ``keep.count``, goes. Tells how many:
        fewer when they are large, but one at least while there are any.
        """

    async def shrink(self) -> bool:
        """Give room that deleted rows left back to the disk, a bounded piece of work.

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
        """Return when the store was last in use, judging by its rows."""

    # Statistics

    async def put_minutes(self, rows: Sequence[MinuteRow]) -> None:
        """Keep what happened in a minute; what is kept of it already is replaced."""

    async def minutes(self, queue: str, *, since: Moment) -> list[MinuteRow]:
        """Return the rows of a queue (``""`` for all queues) from a moment on, oldest first."""

    async def size(self) -> StoreSize:
        """Return how much room the store takes and has."""

    # All of it

    async def put_records(self, records: Sequence[Record]) -> int | None:
        """Put records of an export into a store that was new when the first of them came.

        Returns the place of the first task whose id is there already, None when there is none;
        it was not put, nor were those behind it.
        """

    # Health

    @property
    def trouble(self) -> StoreTrouble | None:
        """What keeps the store from writing, None when the last write went well."""

    @property
    def unreadable_count(self) -> int:
        """How many rows were set aside since the store was opened."""

    @property
    def internal_error_count(self) -> int:
        """How many rows could not be processed since the store was opened.

        In every method that writes, an exception at one row affects that row alone: a task dies
        with the reason *internal_error*, or its row is set aside; a schedule is paused.
        """

    async def recover(self) -> None:
        """Try to get out of trouble; return when the store can be written again.

        Raises:
            StoreUnavailable: not yet.
        """


class StoreTrouble(msgspec.Struct, frozen=True):
    """Why the store cannot be written."""

    reason: str
    full: bool
    damaged: bool = False


EARLIER_RESPONSE = 2048  # bytes kept of an answer when a later one comes
MAX_ATTEMPTS_KEPT = 100  # for one task: the first and the last fifty
SCAN = 20_000  # rows looked at for one page of a list: keeps each reading short
