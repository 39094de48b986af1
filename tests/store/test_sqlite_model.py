"""The SQLite store against a plain dict, driven by random sequences of calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from poussetaches.core import edits
from poussetaches.core.errors import KeyConflict, StateConflict, StoreUnavailable
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import DAY, Moment
from poussetaches.core.queue import Lane, Queue, Retention
from poussetaches.core.responses import QueueCounts
from poussetaches.core.task import (
    Bury,
    Complete,
    DeliveryForm,
    Move,
    Reason,
    RetryAt,
    Task,
    TaskState,
)
from poussetaches.store.base import Edited, FailureCount, Lease, Push
from tests.effort import examples
from tests.factories import NOW, make_schedule, make_task
from tests.store.driving import (
    GiveBack,
    changed,
    counted,
    end,
    fired,
    found_by,
    ids_of,
    listed,
    numbers_of,
    put_schedule,
)
from tests.store.sqlite_files import BROKEN, FULL, Disk, inline_store

R = TypeVar("R")


class Lost(Enum):
    """The result of a write whose commit failed but is on disk."""

    ANSWER = "answer"


LOST: Final = Lost.ANSWER


LANES = [
    Lane(queue, f"http://{host}.test:80", forced)
    for forced in (False, True)
    for queue in ("default", "mail")
    for host in ("app", "other")
]
ENDED = (TaskState.SUCCEEDED, TaskState.DEAD)
FOREVER = 1e9

KEYS = ["k", "l"]
UNIQUES = ["u", "v"]
KEY_TTL = 5.0  # seconds

lanes = st.sampled_from(LANES)
seconds = st.integers(-3, 3).map(lambda n: n * 1_000_000)
limits = st.integers(1, 4)
moves = st.one_of(
    st.sampled_from([Complete(), Bury(Reason.EXHAUSTED), GiveBack("refused"), GiveBack()]),
    seconds.map(lambda delay: RetryAt(Moment(NOW + delay))),
)
# The options of a push; moments are seconds from now.
pushes = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(["default", "mail"]),
        "url": st.sampled_from(["http://app.test/run", "http://other.test/run"]),
        "run_at": st.sampled_from([-1, 0, 0, 0, 2]),
        "expires_at": st.sampled_from([None, None, 1, 3]),
        "priority": st.integers(-1, 1),
        "delivery": st.sampled_from(DeliveryForm),
        "labels": st.sampled_from([{}, {"a": "1"}, {"a": "1", "b": "2"}]),
    }
)
# Options by which a push returns an existing task.
names = st.fixed_dictionaries(
    {
        "key": st.sampled_from([None, None, *KEYS]),
        "unique": st.sampled_from([None, None, *UNIQUES]),
        "body": st.sampled_from([b"one", b"one", b"other"]),
    }
)
kinds = st.sampled_from(["run", "requeue", "cancel", "delete", "amend"])
filters = st.builds(
    TaskFilter,
    states=st.none() | st.frozensets(st.sampled_from(TaskState)),
    failing=st.booleans(),
    queue=st.sampled_from([None, None, "default", "mail"]),
    labels=st.sampled_from([(), (), (("a", "1"),), (("b", "2"), ("a", "1"))]),
    url=st.sampled_from([None, None, "http://other"]),
    key=st.sampled_from([None, None, None, *KEYS]),
    schedule=st.sampled_from([None, None, None, "s"]),
    reason=st.sampled_from([None, None, None, Reason.CANCELLED]),
    text=st.sampled_from([None, None, "WENT", "2"]),
)


def at(now: Moment, push: dict[str, object]) -> dict[str, object]:
    """Return a push with real moments."""
    return {
        name: now + value * 1_000_000 if name.endswith("_at") and isinstance(value, int) else value
        for name, value in push.items()
    }


class KeyInUse(NamedTuple):
    """The push of a key."""

    task_id: str
    content: tuple[str, bytes]
    expires_at: Moment


@dataclass
class Model:
    """The expected content: tasks by id, in the order of adding, and their leases."""

    tasks: dict[str, Task] = field(default_factory=dict)
    leases: dict[int, str] = field(default_factory=dict)
    keys: dict[tuple[str, str], KeyInUse] = field(default_factory=dict)

    def change(self, id: str, **changes: object) -> None:
        """Change a task."""
        self.tasks[id] = msgspec.structs.replace(self.tasks[id], **changes)

    def waiting(self, lane: Lane) -> list[Task]:
        """Return the waiting tasks of a lane that are not leased, in the order of leasing."""
        found = [
            task
            for task in self.tasks.values()
            if task.lane == lane and task.state is TaskState.WAITING
        ]
        return sorted(found, key=lambda task: (-task.priority, task.run_at))

    def next_due(self, lane: Lane) -> Moment | None:
        """Return when a lane's next task is due."""
        return min((task.run_at for task in self.waiting(lane)), default=None)

    def listed(self, state: TaskState) -> list[str]:
        """Return the ids of a list, in order."""
        states = (TaskState.WAITING, TaskState.RUNNING) if state not in ENDED else (state,)
        found = [
            task
            for task in self.tasks.values()
            if task.delivery is DeliveryForm.ENVELOPE
            and task.state in states
            and (state in ENDED or task.schedule is None)
        ]
        return [task.id for task in sorted(found, key=lambda task: (task.run_at, task.id))]

    def selected(self, filter: TaskFilter) -> list[str]:
        """Return the ids of the tasks that a filter selects, the one added last first."""
        return [id for id, task in reversed(self.tasks.items()) if meets(task, filter)]

    def in_the_way(self, push: Task) -> Task | None:
        """Return the newest waiting task with the same ``unique``."""
        found = [
            task
            for task in self.tasks.values()
            if push.unique is not None
            and (task.queue, task.unique) == (push.queue, push.unique)
            and task.state is TaskState.WAITING
        ]
        return found[-1] if found else None

    def delete(self, id: str) -> None:
        """Delete a task, which frees its key."""
        del self.tasks[id]
        self.keys = {name: key for name, key in self.keys.items() if key.task_id != id}

    def bury(self, ids: list[str], reason: Reason, now: Moment) -> None:
        """Bury tasks."""
        for id in ids:
            self.change(id, state=TaskState.DEAD, reason=reason, ended_at=now)


async def made(call: Callable[[], Awaitable[R]]) -> R:
    """Make a call in the event loop, and wait for it."""
    return await call()


def meets(task: Task, filter: TaskFilter) -> bool:
    """Return whether a task matches a filter."""
    texts = [task.url, task.last_error or "", *task.labels.values()]
    return all(
        (
            filter.states is None or task.state in filter.states,
            not filter.failing or task.is_failing,
            filter.queue in (None, task.queue),
            all(task.labels.get(name) == value for name, value in filter.labels),
            filter.url is None or task.url.startswith(filter.url),
            filter.key in (None, task.key),
            filter.schedule in (None, task.schedule),
            filter.reason in (None, task.reason),
            filter.text is None or any(filter.text.lower() in text.lower() for text in texts),
        )
    )


class StoreAgainstModel(RuleBasedStateMachine):
    """Makes the same calls to the store and the model, and compares them after each."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.disk = Disk()
        self.store = inline_store(None, disk=self.disk)
        self.model = Model()
        self.now = NOW
        self.last_id = 0

    def run(self, call: Coroutine[object, object, R]) -> R:
        """Wait for a call of the store."""
        return self.loop.run_until_complete(call)

    def write(self, call: Callable[[], Awaitable[R]]) -> R | Literal[Lost.ANSWER]:
        """Wait for a call that writes, unless the disk fails just then; then recover.

        A write that did not reach the disk is repeated; the result of one that did is lost.
        """
        if self.disk.error is None:
            return self.run(made(call))
        asked = self.disk.commit_count
        try:
            answer = self.run(made(call))
        except StoreUnavailable:
            pass
        else:
            assert self.disk.commit_count == asked, "the disk failed, and nobody noticed"
            return answer  # there was nothing to write
        self.disk.error = None
        self.run(self.store.recover())
        return LOST if self.disk.keeps_what_fails else self.run(made(call))

    def new_id(self) -> str:
        """Return an id whose order is unrelated to the order of adding."""
        self.last_id += 1
        return f"{self.last_id * 7 % 10}-{self.last_id}"

    @initialize()
    def open(self) -> None:
        """Open the store, with one schedule."""
        self.run(self.store.open())
        self.run(put_schedule(self.store, make_schedule("s")))

    def teardown(self) -> None:
        """Close the store."""
        self.run(self.store.close())
        self.loop.close()

    @rule(kept=st.booleans(), full=st.booleans())
    def fail_next(self, kept: bool, full: bool) -> None:
        """Fail the next commit; one that reaches the disk does not fail for lack of space."""
        self.disk.error = FULL if full and not kept else BROKEN
        self.disk.keeps_what_fails = kept

    @rule(pushes=st.lists(pushes, min_size=1, max_size=6))
    def add(self, pushes: list[dict[str, object]]) -> None:
        """Add tasks."""
        for push in pushes:
            task = make_task(self.new_id(), **at(self.now, push))
            self.add_one(task)

    def add_one(self, task: Task) -> None:
        """Add a task to the store and the model."""
        self.write(lambda: self.store.add(task))
        self.model.tasks[task.id] = task

    @rule(target=leases, wanted=st.dictionaries(lanes, st.integers(0, 4), min_size=1))
    def lease(self, wanted: dict[Lane, int]) -> object:
        """Lease due tasks."""
        leased = self.run(self.store.lease_due(wanted, now=self.now))

        expected = [
            task
            for lane, limit in wanted.items()
            for task in [due for due in self.model.waiting(lane) if due.run_at <= self.now][:limit]
        ]
        assert [lease.task for lease in leased.leases] == expected
        for lease in leased.leases:
            self.model.leases[lease.token] = lease.task.id
            self.model.change(lease.task.id, state=TaskState.RUNNING)
        assert leased.next_due == {lane: self.model.next_due(lane) for lane in wanted}
        return multiple(*leased.leases)

    @rule(limit=limits, move=moves)
    def run_due(self, limit: int, move: Move | GiveBack) -> None:
        """Lease some due tasks, and end their attempts in the same way."""
        leased = self.run(self.store.lease_due(dict.fromkeys(LANES, limit), now=self.now))
        for lease in leased.leases:
            self.model.leases[lease.token] = lease.task.id
            self.finish_one(lease, move, again=False)

    @rule(lease=consumes(leases), move=moves, again=st.booleans())
    def finish(self, lease: Lease, move: Move | GiveBack, again: bool) -> None:
        """End an attempt once or twice."""
        self.finish_one(lease, move, again=again)

    def finish_one(self, lease: Lease, move: Move | GiveBack, *, again: bool) -> None:
        """End an attempt in the store and the model."""
        answer = self.write(lambda: end(self.store, lease, move, now=self.now))

        id = self.model.leases.pop(lease.token)
        was = self.model.tasks.get(id)
        if answer is LOST and isinstance(move, GiveBack) and not (was and was.cancelled):
            # Putting back is not on disk, so after the error the lease still exists.
            answer = self.run(end(self.store, lease, move, now=self.now))
        assert answer in (LOST, was is not None)
        if again:
            assert self.run(end(self.store, lease, move, now=self.now)) is False
        if was is None:
            return
        self.model.change(id, state=TaskState.WAITING, cancelled=False)
        if isinstance(move, GiveBack):
            if move.error is not None:
                self.model.change(id, last_status=None, last_error=move.error)
        else:
            succeeded = isinstance(move, Complete)
            self.model.change(
                id,
                attempt_count=was.attempt_count + 1,
                attempt_total=was.attempt_total + 1,
                last_status=200 if succeeded else 500,
                last_error=None if succeeded else "went wrong",
            )
        match move:
            case Complete():
                self.model.change(id, state=TaskState.SUCCEEDED, ended_at=self.now)
            case Bury(reason):
                self.model.bury([id], reason, self.now)
            case _ if was.cancelled:
                self.model.bury([id], Reason.CANCELLED, self.now)
            case RetryAt(run_at):
                self.model.change(id, run_at=run_at, forced=False)

    @rule()
    def fire(self) -> None:
        """Fire the schedule."""
        id = self.new_id()
        is_known = bool(self.run(self.store.schedules("original")))

        # Due again at the next moment.
        schedule = msgspec.structs.replace(
            fired(make_schedule("s"), self.now), next_run_at=Moment(self.now + 1)
        )
        run = make_task(id, schedule="s", run_at=self.now)
        was_added = self.write(lambda: self.store.fire(schedule, run, now=self.now))

        unfinished = [
            task
            for task in self.model.tasks.values()
            if task.schedule == "s" and task.state not in ENDED
        ]
        blocked = any(
            task.state is TaskState.RUNNING or not task.attempt_count for task in unfinished
        )
        assert was_added in (LOST, is_known and not blocked)
        if is_known and not blocked:
            self.model.bury([task.id for task in unfinished], Reason.SUPERSEDED, self.now)
            self.model.tasks[id] = run
        self.now = Moment(self.now + 1)  # each occurrence fires once

    @rule()
    def delete_schedules(self) -> None:
        """Delete the schedule with its runs, and create it again."""
        self.write(lambda: self.store.delete_schedules("original", now=self.now))
        self.run(put_schedule(self.store, make_schedule("s")))
        for task in list(self.model.tasks.values()):
            if task.schedule == "s" and task.state is TaskState.WAITING:
                self.model.delete(task.id)
            elif task.schedule == "s" and task.state is TaskState.RUNNING:
                self.model.change(task.id, cancelled=True)

    @rule(
        pushes=st.lists(st.tuples(pushes, names, st.booleans()), min_size=1, max_size=4),
    )
    def push(self, pushes: list[tuple[dict[str, object], dict[str, object], bool]]) -> None:
        """Push tasks with keys, one at a time, all or none."""
        items = [
            Push(
                task=make_task(self.new_id(), **at(self.now, push), **names),
                key_ttl=KEY_TTL,
                replaces=replaces,
            )
            for push, names, replaces in pushes
        ]

        try:
            answers = self.write(lambda: self.store.push(items, now=self.now))
        except KeyConflict as exc:
            assert exc.place == self.first_conflict(items)
            return

        if self.first_conflict(items) is not None:
            assert answers is LOST
            return
        expected = [self.push_one(item) for item in items]
        if answers is not LOST:
            assert [(one.task_id, one.existing) for one in answers] == expected

    def first_conflict(self, items: list[Push]) -> int | None:
        """Return the place of the first push whose key belongs to a different push."""
        contents = {
            name: known.content
            for name, known in self.model.keys.items()
            if known.expires_at > self.now
        }
        for place, push in enumerate(items):
            task = push.task
            if task.key is not None:
                content = (task.url, task.body)
                if contents.setdefault((task.queue, task.key), content) != content:
                    return place
        return None

    def push_one(self, push: Push) -> tuple[str, bool]:
        """Add a task to the model, or return the existing one of its key or ``unique``."""
        task = push.task
        known = self.model.keys.get((task.queue, task.key or ""))
        if task.key is not None and known is not None and known.expires_at > self.now:
            return known.task_id, True
        waiting = self.model.in_the_way(task)
        kept = task if waiting is None else waiting
        if waiting is None:
            self.model.tasks[task.id] = task
        elif push.replaces:
            self.model.change(waiting.id, body=task.body, run_at=task.run_at, due_at=task.due_at)
        if task.key is not None:
            expires_at = Moment(self.now + round(KEY_TTL * 1_000_000))
            name = (task.queue, task.key)
            self.model.keys[name] = KeyInUse(kept.id, (task.url, task.body), expires_at)
        return kept.id, waiting is not None

    def edit_of(self, kind: str) -> edits.Edit:
        """Return an edit by its name."""
        known: dict[str, edits.Edit] = {
            "run": edits.Run(at=self.now),
            "requeue": edits.Requeue(at=self.now),
            "cancel": edits.Cancel(self.now),
            "delete": edits.Delete(),
            "amend": changed(
                url="http://other.test/run",
                priority=2,
                labels={"b": "2"},
                expires_at=Moment(self.now + 1_000_000),
            ),
        }
        return known[kind]

    def edit_one(self, id: str, kind: str) -> str | None:
        """Edit a task in the model; return the state that does not allow it, if any."""
        try:
            new = edits.edited(self.model.tasks[id], self.edit_of(kind))
        except StateConflict as exc:
            return exc.state
        if new is None:
            self.model.delete(id)
        else:
            self.model.tasks[id] = new
        return None

    @rule(place=st.integers(0, 30), kind=kinds)
    def edit(self, place: int, kind: str) -> None:
        """Edit one task."""
        if not self.model.tasks:
            return
        id = list(self.model.tasks)[place % len(self.model.tasks)]
        answer: object = None
        state = None
        try:
            answer = self.write(lambda: self.store.edit(id, self.edit_of(kind), now=self.now))
        except StateConflict as exc:
            state = exc.state

        expected = self.edit_one(id, kind)
        assert answer is LOST or state == expected

    @rule(filter=filters, kind=kinds)
    def edit_many(self, filter: TaskFilter, kind: str) -> None:
        """Edit the tasks that a filter selects."""
        numbers = self.run(numbers_of(self.store, filter, limit=2))
        if not numbers:  # and so nothing to write
            assert self.model.selected(filter) == []
            return

        edited = self.write(
            lambda: self.store.edit_slice(
                numbers, self.edit_of(kind), start=0, filter=filter, now=self.now
            )
        )

        states = [self.edit_one(id, kind) for id in self.model.selected(filter)]
        refused = Counter(state for state in states if state is not None)
        assert edited in (LOST, Edited(states.count(None), dict(refused), len(numbers)))

    @rule(filter=filters, limit=limits)
    def search(self, filter: TaskFilter, limit: int) -> None:
        """Find the tasks that a filter selects, page by page."""
        found = self.run(found_by(self.store, filter, limit=limit))

        assert found == self.model.selected(filter)

    @rule(paused=st.booleans(), name=st.sampled_from(["default", "mail", "other"]))
    def edit_queue(self, paused: bool, name: str) -> None:
        """Pause or resume a queue."""
        queue = Queue(name=name, paused=paused)

        self.write(lambda: self.store.edit_queue(name, lambda _: queue))

        assert self.run(self.store.queues())[name] == queue

    @rule(limit=limits)
    def tidy(self, limit: int) -> None:
        """Delete rows that are no longer needed; only expired keys are visible."""
        self.write(lambda: self.store.tidy(now=Moment(self.now + 2 * DAY), limit=limit))
        # At this later time, all keys have expired, but some may still be stored.
        self.run(self.store.tidy(now=Moment(self.now + 2 * DAY), limit=1000))
        self.model.keys.clear()

    @rule(limit=limits)
    def expire(self, limit: int) -> None:
        """Bury what has expired."""
        count = self.write(lambda: self.store.expire(now=self.now, limit=limit))

        expired = [
            task
            for task in self.model.tasks.values()
            if task.state is TaskState.WAITING
            and task.expires_at is not None
            and task.expires_at <= self.now
        ]
        assert count in (LOST, min(limit, len(expired)))
        # The store may choose the order.
        stored = {task.id: self.run(self.store.get(task.id)) for task in expired}
        gone = [
            id for id, task in stored.items() if task is not None and task.state is TaskState.DEAD
        ]
        assert len(gone) == min(limit, len(expired))
        self.model.bury(gone, Reason.EXPIRED, self.now)

    @rule(count=st.integers(0, 2), age=st.sampled_from([0.0, 2.0, FOREVER]), limit=limits)
    def prune(self, count: int, age: float, limit: int) -> None:
        """Prune ended tasks of every queue and state."""
        for queue in ("default", "mail", "unknown"):
            for state in ENDED:
                self.prune_one(queue, state, Retention(count, age), limit)

    def prune_one(self, queue: str, state: TaskState, keep: Retention, limit: int) -> None:
        """Prune ended tasks in the store and the model."""
        count = self.write(lambda: self.store.prune(queue, state, keep, now=self.now, limit=limit))

        ended = [
            task
            for task in self.model.tasks.values()
            if (task.queue, task.state) == (queue, state)
        ]
        moments = sorted(task.ended_at for task in ended if task.ended_at is not None)
        too_many = len(ended) - keep.count
        oldest = [
            moment
            for place, moment in enumerate(moments)
            if place < too_many or moment <= self.now - keep.age * 1_000_000
        ]
        assert count in (LOST, min(limit, len(oldest)))
        gone = [task for task in ended if self.run(self.store.get(task.id)) is None]
        # The store may choose among tasks that ended at the same moment.
        assert sorted(task.ended_at or NOW for task in gone) == oldest[:limit]
        for task in gone:
            del self.model.tasks[task.id]

    @rule(step=st.integers(1, 4))
    def wait(self, step: int) -> None:
        """Advance the time."""
        self.now = Moment(self.now + step * 1_000_000)

    @invariant()
    def tasks_are_the_same(self) -> None:
        """Compare every task, and the counts with a recount."""
        stored = {id: self.run(self.store.get(id)) for id in self.model.tasks}
        assert stored == self.model.tasks
        counts = self.run(self.store.counts()) if stored else {}
        kept = {name: queue for name, queue in counts.items() if queue != QueueCounts()}
        assert kept == counted(self.model.tasks.values())

    @invariant()
    def failures_are_the_same(self) -> None:
        """Compare the failure groups with a recount."""
        if not self.model.tasks:
            return
        for state in (TaskState.WAITING, TaskState.DEAD):
            expected = Counter(
                group.id
                for task in self.model.tasks.values()
                if (task.state is TaskState.DEAD) is (state is TaskState.DEAD)
                and (group := task.failure_group) is not None
            )
            found = self.run(self.store.failures(state))
            assert {one.group.id: one.count for one in found} == expected
            newest = list(self.model.tasks)
            for one in found:
                assert max(newest.index(id) for id in self.grouped(one, state)) == newest.index(
                    one.example_id
                )

    def grouped(self, found: FailureCount, state: TaskState) -> list[str]:
        """Return the ids of a failure group's tasks of a state."""
        states = {TaskState.DEAD} if state is TaskState.DEAD else set(TaskState) - set(ENDED)
        filter = TaskFilter(group=found.group.id, states=frozenset(states))
        return self.run(found_by(self.store, filter, limit=2))

    @invariant()
    def lists_are_the_same(self) -> None:
        """Compare the lists, page by page, and what is due next."""
        if not self.model.tasks:
            return
        for state in (TaskState.WAITING, *ENDED):
            found = self.run(listed(self.store, state, limit=2))
            assert ids_of(found) == self.model.listed(state)
        every_lane = {task.lane for task in self.model.tasks.values()}
        due = {lane: self.model.next_due(lane) for lane in every_lane}
        expected = {lane: run_at for lane, run_at in due.items() if run_at is not None}
        assert self.run(self.store.next_due()) == expected


StoreAgainstModel.TestCase.settings = settings(
    max_examples=examples(50),
    stateful_step_count=40,
    deadline=None,  # steps may be slow on a busy machine
    derandomize=True,  # reproducible, so that a failure is caused by the change under test
    suppress_health_check=[HealthCheck.too_slow],
)
TestStoreAgainstModel = StoreAgainstModel.TestCase
