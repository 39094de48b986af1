"""What the service should do, in a plain model: a dict of tasks and no store, lanes or HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

SECOND = 1_000_000
BACKOFF = 10  # seconds after the first failed attempt; twice that after the second, and so on
MULTIPLIER = 2
EVERY = 60  # seconds between the occurrences of the schedule
DEAD_ON = 410  # for the queue "mail"


@dataclass(frozen=True)
class Known:
    """A task as it should be; moments are microseconds."""

    id: str
    queue: str
    path: str
    run_at: int
    order: int
    max_attempts: int
    state: str = "waiting"
    reason: str | None = None
    round: int = 1
    attempt_count: int = 0
    attempt_total: int = 0
    last_status: int | None = None
    last_error: str | None = None
    expires_at: int | None = None
    unique: str | None = None
    key: str | None = None
    label: str | None = None
    schedule: str | None = None
    body: object = None
    forced: bool = False

    @property
    def has_ended(self) -> bool:
        """Tell whether nothing more will happen by itself."""
        return self.state in ("succeeded", "dead")

    @property
    def is_failing(self) -> bool:
        """Tell whether it waits after a failed attempt."""
        return self.state == "waiting" and self.attempt_count > 0


@dataclass
class Model:
    """All that should be there, by the tasks' ids in the order of their pushes."""

    now: int
    tasks: dict[str, Known] = field(default_factory=dict)
    keys: dict[tuple[str, str], tuple[str, object]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    server_paused: bool = False
    replies: dict[str, int] = field(default_factory=dict)
    next_run_at: int | None = None  # of the schedule, when there is one
    order: int = 0

    def add(self, task: Known) -> None:
        """Keep a new task."""
        self.tasks[task.id] = task

    def next_order(self) -> int:
        """Return a number higher than those of all tasks so far."""
        self.order += 1
        return self.order

    def change(self, id: str, **changes: object) -> None:
        """Change a task."""
        self.tasks[id] = replace(self.tasks[id], **changes)  # type: ignore[arg-type]  # by name

    def waiting_with(self, queue: str, unique: str) -> Known | None:
        """Return the waiting task that has a value of ``unique``."""
        found = [
            task
            for task in self.tasks.values()
            if (task.queue, task.unique, task.state) == (queue, unique, "waiting")
        ]
        return found[0] if found else None

    # What time brings

    def settle(self) -> None:
        """Do what is due: occurrences, expiry, attempts."""
        self.expire()
        while self._attempt_due():
            pass

    def expire(self) -> None:
        """Bury what waits past its end."""
        for task in list(self.tasks.values()):
            is_over = task.expires_at is not None and task.expires_at <= self.now
            if task.state == "waiting" and is_over:
                self.change(task.id, state="dead", reason="expired")

    def fires(self) -> bool:
        """Advance the schedule past now; tell whether a run is due for it."""
        if self.next_run_at is None or self.next_run_at > self.now:
            return False
        missed = (self.now - self.next_run_at) // (EVERY * SECOND)
        self.next_run_at += (missed + 1) * EVERY * SECOND
        last = [task for task in self.tasks.values() if task.schedule and not task.has_ended]
        if any(not task.attempt_count for task in last):
            return False
        for task in last:
            self.change(task.id, state="dead", reason="superseded")
        return True

    def _attempt_due(self) -> bool:
        due = [task for task in self.tasks.values() if self._may_start(task)]
        for task in due:
            self._attempt(task)
        return bool(due)

    def _may_start(self, task: Known) -> bool:
        is_paused = self.server_paused or task.queue in self.paused
        is_due = task.state == "waiting" and task.run_at <= self.now
        return is_due and (task.forced or not is_paused)

    def _attempt(self, task: Known) -> None:
        status = self.replies.get(task.path, 200)
        count = task.attempt_count + 1
        changes: dict[str, object] = {
            "attempt_count": count,
            "attempt_total": task.attempt_total + 1,
            "last_status": status,
        }
        run_at = self.now + BACKOFF * MULTIPLIER ** (count - 1) * SECOND
        if status == 200:
            changes |= {"state": "succeeded"}
        elif status == DEAD_ON and task.queue == "mail":
            changes |= {"state": "dead", "reason": "refused"}
        elif count >= task.max_attempts:
            changes |= {"state": "dead", "reason": "exhausted"}
        elif task.expires_at is not None and run_at > task.expires_at:
            changes |= {"state": "dead", "reason": "expired"}
        else:
            changes |= {"run_at": run_at, "forced": False}
        self.change(task.id, **changes)

    # What people do

    def selected(self, is_meant: Callable[[Known], bool]) -> Iterator[Known]:
        """Yield the tasks of a filter, the one pushed last first."""
        yield from sorted(
            filter(is_meant, self.tasks.values()), key=lambda task: task.order, reverse=True
        )

    def run(self, task: Known, at: int) -> None:
        """Make a waiting task due."""
        self.change(task.id, run_at=at, forced=True)

    def requeue(self, task: Known, at: int) -> None:
        """Send an ended task round again."""
        self.change(
            task.id,
            state="waiting",
            reason=None,
            run_at=at,
            round=task.round + 1,
            attempt_count=0,
            last_status=None,
            last_error=None,
            expires_at=None,
            forced=False,
        )

    def cancel(self, task: Known) -> None:
        """Bury a waiting task."""
        self.change(task.id, state="dead", reason="cancelled")

    # What is seen from outside

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
