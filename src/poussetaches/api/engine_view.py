"""What the API may know of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from poussetaches.core.moment import Moment
from poussetaches.core.progress_report import Progress
from poussetaches.core.task import Task
from poussetaches.core.wait_reason import WaitingFor
from poussetaches.engine.limits import Limit
from poussetaches.engine.queue_registry import Queues


class EngineView(Protocol):
    """The engine as the API sees it."""

    @property
    def paused(self) -> bool:
        """Whether the server is paused."""

    @property
    def in_flight(self) -> int:
        """How many attempts are in flight."""

    @property
    def internal_error_count(self) -> int:
        """How many internal errors the engine has survived since the start."""

    @property
    def queues(self) -> Queues:
        """The queues, with their settings and pauses."""

    @property
    def shortage(self) -> str | None:
        """The resource that attempts lacked within the last minute; None if none was short."""

    @property
    def clock_leap(self) -> float | None:
        """Seconds that the clock is ahead of the confirmed time; None if it is not."""

    def confirmed(self) -> Moment:
        """Return the time at which keys expire, without unconfirmed leaps of the clock ahead."""

    def latest_possible(self) -> Moment:
        """Return the time from which keys are kept, without leaps back of the clock."""

    def progress_of(self, task_id: str) -> Progress | None:
        """Return what the handler of a task's running attempt reported last."""

    def report_progress(self, task_id: str, token: str, progress: Progress) -> Task:
        """Keep the progress of a running attempt, and return its task.

        Raises:
            AttemptOver: no attempt of this task with this token is running.
        """

    def held(self) -> Mapping[str, str]:
        """Return the origins that are held, with the errors that they are held for."""

    def stuck(self) -> list[str]:
        """Return what does not move and ought to, in words; empty when all is well."""

    def oldest_due_at(self, queue: str | None) -> Moment | None:
        """Return since when a queue's oldest due task is due, or (None) that of all queues."""

    def waiting_for(self, task: Task) -> list[WaitingFor]:
        """Return what a waiting task waits for; the tasks in front of it are not counted."""

    def wait_reasons(self, tasks: Iterable[Task]) -> list[list[Limit] | None]:
        """Return the limits that each task of a list waits for; None if it does not wait."""

    def queue_waiting_for(self, queue: str) -> list[WaitingFor]:
        """Return what keeps a queue from starting attempts."""
