"""Complete values for tests, so that a test gives only the fields that it is about."""

from __future__ import annotations

from random import Random

import msgspec

from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.queue import Queue, QueueOverrides
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Outcome, Reason, Task, TaskState

NOW = Moment(1_790_000_000_000_000)  # 2026-09-21 14:13:20 UTC
URL = "http://app.test:5000/run"


def make_task(id: str = "task", **overrides: object) -> Task:
    """Return a task that is due now; an overridden ``run_at`` moves ``due_at`` with it."""
    due_at = overrides.get("run_at", NOW)
    task = Task(id=id, url=URL, created_at=NOW, run_at=NOW, due_at=NOW)
    return msgspec.structs.replace(task, **{"due_at": due_at, **overrides})


def make_ended(id: str, state: TaskState, **overrides: object) -> Task:
    """Return a task that has succeeded or died."""
    reason = Reason.EXHAUSTED if state is TaskState.DEAD else None
    return make_task(id, **{"state": state, "reason": reason, "ended_at": NOW, **overrides})


def make_attempt(number: int = 1, **overrides: object) -> Attempt:
    """Return an attempt that failed with status 500."""
    attempt = Attempt(
        round=1,
        number=number,
        request_id=f"request-{number}",
        started_at=NOW,
        duration=0.25,
        succeeded=False,
        status=500,
        response_body=b"went wrong",
    )
    return msgspec.structs.replace(attempt, **overrides)


def make_schedule(name: str = "schedule", **overrides: object) -> Schedule:
    """Return an hourly schedule that is due now."""
    schedule = Schedule(
        name=name,
        owner="original",
        cron="@every 1h",
        task=make_task("template"),
        created_at=Moment(NOW - HOUR),
        anchor_at=Moment(NOW - HOUR),
        next_run_at=NOW,
    )
    return msgspec.structs.replace(schedule, **overrides)


def make_queue(name: str = "default", *, paused: bool = False, **overrides: object) -> Queue:
    """Return a configured queue with these settings of its own."""
    settings = msgspec.structs.replace(QueueOverrides(), **overrides)
    return Queue(name=name, overrides=settings, configured=True, paused=paused)


def make_outcome(status: int | None = None, **overrides: object) -> Outcome:
    """Return an outcome; without a status it is a connection error."""
    error = "connection reset" if status is None else None
    return msgspec.structs.replace(Outcome(status=status, error=error), **overrides)


def seeded(seed: int = 1) -> Random:
    """Return a random generator with a fixed seed."""
    return Random(seed)  # noqa: S311 - not for secrets


class FixedRandom(Random):
    """A random generator that always returns the same number, from 0 to 1."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self._share = share

    def random(self) -> float:
        """Return the number."""
        return self._share
