"""The expected behaviour as a simple model: a dict of tasks, without store, lanes or HTTP."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

SECOND = 1_000_000
# Seconds after the first failed attempt; twice that after the second, and so on. Never whole, so
# that no attempt is due at the same moment as the schedule: either might come first.
BACKOFF = 10.25
MULTIPLIER = 2
MOST_ATTEMPTS = 12  # where neither the task nor its queue says anything
EVERY = 60  # seconds between the occurrences of the schedule
DEAD_ON = 410  # for the queue "mail"

Lane = tuple[str, bool]  # a queue, and whether the tasks were told to run


@dataclass(frozen=True)
class Known:
    """A task as it should be; moments are microseconds."""

    id: str
    queue: str
    path: str
    run_at: int
    order: int
    max_attempts: int | None
    priority: int = 0
    state: str = "waiting"
    reason: str | None = None
    round: int = 1
    attempt_count: int = 0
    last_status: int | None = None
    expires_at: int | None = None
    unique: str | None = None
    key: str | None = None
    label: str | None = None
    schedule: str | None = None
    body: object = None
    forced: bool = False

    @property
    def has_ended(self) -> bool:
        """Return whether the task has ended."""
        return self.state in ("succeeded", "dead")

    @property
    def is_failing(self) -> bool:
        """Return whether the task waits after a failed attempt."""
        return self.state == "waiting" and self.attempt_count > 0

    @property
    def turn(self) -> tuple[int, int, int]:
        """Its place among the due tasks of its lane."""
        return -self.priority, self.run_at, self.order


@dataclass(frozen=True)
class Tried:
    """An attempt as its receiver sees it."""

    id: str
    path: str
    body: object
    round: int
    number: int


@dataclass(frozen=True)
class Standing:
    """The task of a key, and the end of its validity."""

    id: str
    content: object
    until: int


@dataclass
class Model:
    """The expected tasks, by their ids in the order of their pushes."""

    now: int
    tasks: dict[str, Known] = field(default_factory=dict)
    keys: dict[tuple[str, str], Standing] = field(default_factory=dict)
    max_attempts: dict[str, int | None] = field(default_factory=dict)  # of queues
    paused: set[str] = field(default_factory=set)
    server_paused: bool = False
    replies: dict[str, int] = field(default_factory=dict)
    next_run_at: int | None = None  # of the schedule, when there is one
    schedule_paused: bool = False
    order: int = 0

    def add(self, task: Known) -> None:
        """Add a new task."""
        self.tasks[task.id] = task

    def next_order(self) -> int:
        """Return a number higher than those of all tasks so far."""
        self.order += 1
        return self.order

    def change(self, id: str, **changes: object) -> None:
        """Change a task."""
        self.tasks[id] = replace(self.tasks[id], **changes)  # type: ignore[arg-type]  # by name

    def after(self, seconds: float) -> int:
        """Return the moment a number of seconds from now."""
        return self.now + math.ceil(seconds * SECOND)

    def standing_for(self, queue: str, key: str) -> Standing | None:
        """Return the task of a key that is still valid."""
        standing = self.keys.get((queue, key))
        return standing if standing is not None and self.now < standing.until else None

    def waiting_with(self, queue: str, unique: str) -> Known | None:
        """Return the waiting task with a value of ``unique``, the one pushed last of several."""
        same = (queue, unique, "waiting")
        found = self.selected(lambda task: (task.queue, task.unique, task.state) == same)
        return found[0] if found else None

    def advance(self, seconds: float, run_ids: Iterator[str]) -> dict[Lane, list[Tried]]:
        """Advance the time; return the attempts of each lane in order. Runs get these ids."""
        end = self.after(seconds)
        tried: dict[Lane, list[Tried]] = {}
        self._settle(tried, run_ids)
        while self.now < end:
            self.now = min((moment for moment in self._moments() if moment < end), default=end)
            self._settle(tried, run_ids)
        return tried

    def _moments(self) -> Iterator[int]:
        """Yield the next moments at which something may be due."""
        waiting = [task for task in self.tasks.values() if task.state == "waiting"]
        for moment in (
            *(task.run_at for task in waiting),
            *(task.expires_at for task in waiting),
            self.next_run_at,
        ):
            if moment is not None and moment > self.now:
                yield moment

    def _settle(self, tried: dict[Lane, list[Tried]], run_ids: Iterator[str]) -> None:
        """Do what is due: expiry, attempts, the schedule, and the attempt of its run."""
        self._expire()
        self._attempt_due(tried)
        if self._fires():
            self.add_run(next(run_ids))
            self._attempt_due(tried)

    def _attempt_due(self, tried: dict[Lane, list[Tried]]) -> None:
        while due := sorted(filter(self._may_start, self.tasks.values()), key=lambda t: t.turn):
            for task in due:
                tried.setdefault((task.queue, task.forced), []).append(self._attempt(task))

    def _expire(self) -> None:
        """Bury expired waiting tasks."""
        for task in list(self.tasks.values()):
            is_over = task.expires_at is not None and task.expires_at <= self.now
            if task.state == "waiting" and is_over:
                self.change(task.id, state="dead", reason="expired")

    def _fires(self) -> bool:
        """Advance the schedule past now; return whether a run is due."""
        if self.schedule_paused or not self._pass_occurrences():
            return False
        last = [task for task in self.tasks.values() if task.schedule and not task.has_ended]
        if any(not task.attempt_count for task in last):
            return False
        for task in last:
            self.change(task.id, state="dead", reason="superseded")
        return True

    def _pass_occurrences(self) -> bool:
        """Advance the schedule past now; return whether it was due."""
        if self.next_run_at is None or self.next_run_at > self.now:
            return False
        missed = (self.now - self.next_run_at) // (EVERY * SECOND)
        self.next_run_at += (missed + 1) * EVERY * SECOND
        return True

    def _may_start(self, task: Known) -> bool:
        is_paused = self.server_paused or task.queue in self.paused
        is_due = task.state == "waiting" and task.run_at <= self.now
        return is_due and (task.forced or not is_paused)

    def _attempt(self, task: Known) -> Tried:
        status = self.replies.get(task.path, 200)
        count = task.attempt_count + 1
        changes: dict[str, object] = {"attempt_count": count, "last_status": status}
        run_at = self.after(BACKOFF * MULTIPLIER ** (count - 1))
        most = task.max_attempts or self.max_attempts.get(task.queue) or MOST_ATTEMPTS
        if status == 200:
            changes |= {"state": "succeeded"}
        elif status == DEAD_ON and task.queue == "mail":
            changes |= {"state": "dead", "reason": "refused"}
        elif count >= most:
            changes |= {"state": "dead", "reason": "exhausted"}
        elif task.expires_at is not None and run_at > task.expires_at:
            changes |= {"state": "dead", "reason": "expired"}
        else:
            changes |= {"run_at": run_at, "forced": False}
        self.change(task.id, **changes)
        return Tried(task.id, task.path, task.body, task.round, count)

    def selected(self, is_meant: Callable[[Known], bool]) -> list[Known]:
        """Return the tasks of a filter, the one pushed last first."""
        return sorted(
            filter(is_meant, self.tasks.values()), key=lambda task: task.order, reverse=True
        )

    def run(self, task: Known, at: int) -> None:
        """Make a waiting task due."""
        self.change(task.id, run_at=at, forced=True)

    def requeue(self, task: Known, at: int) -> None:
        """Requeue an ended task."""
        self.change(
            task.id,
            state="waiting",
            reason=None,
            run_at=at,
            round=task.round + 1,
            attempt_count=0,
            last_status=None,
            expires_at=None,
            forced=False,
        )

    def cancel(self, task: Known) -> None:
        """Bury a waiting task."""
        self.change(task.id, state="dead", reason="cancelled")

    def delete(self, task: Known) -> None:
        """Delete a task, which frees its key."""
        del self.tasks[task.id]
        self.keys = {name: key for name, key in self.keys.items() if key.id != task.id}

    def purge(self, queue: str) -> int:
        """Purge a queue; return the number of deleted tasks."""
        waiting = self.selected(lambda task: (task.queue, task.state) == (queue, "waiting"))
        for task in waiting:
            self.delete(task)
        return len(waiting)

    def add_run(self, id: str) -> None:
        """Add a new run of the schedule."""
        self.add(Known(id, "default", "/a", self.now, self.next_order(), 2, schedule="s"))

    def put_schedule(self) -> None:
        """Store the schedule; storing it again changes nothing."""
        if self.next_run_at is None:
            self.next_run_at = self.after(EVERY)

    def delete_schedule(self) -> None:
        """Delete the schedule with its waiting runs."""
        self.next_run_at, self.schedule_paused = None, False
        for task in list(self.tasks.values()):
            if task.schedule and task.state == "waiting":
                self.delete(task)

    def resume_schedule(self) -> None:
        """Continue at the next occurrence."""
        if self.schedule_paused:
            self.schedule_paused = False
            self._pass_occurrences()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the counts of each queue that has tasks."""
        found: dict[str, Counter[str]] = {}
        for task in self.tasks.values():
            counts = found.setdefault(task.queue, Counter())
            counts[task.state] += 1
            counts["failing"] += task.is_failing
        return {queue: dict(counts) for queue, counts in found.items()}

    def failures(self) -> Counter[tuple[str, str, int | None]]:
        """Return how many dead tasks each queue, path and last status has."""
        return Counter(
            (task.queue, task.path, task.last_status)
            for task in self.tasks.values()
            if task.state == "dead"
        )
