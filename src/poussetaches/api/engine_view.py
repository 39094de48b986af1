"""``EngineView``: the part of the engine that the API uses."""

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
        """The number of attempts in flight."""

    @property
    def internal_error_count(self) -> int:
        """The number of internal errors since the start that the engine survived."""

    @property
    def queues(self) -> Queues:
        """The queues, with their settings and pauses."""

    @property
    def shortage(self) -> str | None:
        """The resource that attempts lacked within the last minute, None without a shortage."""

    @property
    def clock_leap(self) -> float | None:
        """Seconds by which the clock is ahead of the confirmed time; None if it is not."""

    def confirmed(self) -> Moment:
        """Return the time by which keys expire, without unconfirmed leaps of the clock ahead."""

    def latest_possible(self) -> Moment:
        """Return the time from which keys are kept, without leaps back of the clock."""

    def progress_of(self, task_id: str) -> Progress | None:
        """Return the last progress report of a running attempt."""

    def report_progress(self, task_id: str, token: str, progress: Progress) -> Task:
        """Store the progress of a running attempt, and return its task.

        Raises:
            AttemptOver: no attempt of this task with this token is running.
        """

    def held(self) -> Mapping[str, str]:
        """Return the held origins, with the errors that caused the holds."""

    def stuck(self) -> list[str]:
        """Return descriptions of loops that have stopped; empty if the engine works."""

    def oldest_due_at(self, queue: str | None) -> Moment | None:
        """Return when the oldest due task of a queue, or of all queues (None), became due."""

    def waiting_for(self, task: Task) -> list[WaitingFor]:
        """Return why a waiting task waits, without the tasks ahead of it."""

    def wait_reasons(self, tasks: Iterable[Task]) -> list[list[Limit] | None]:
        """Return the limits that each task waits for, None for tasks that do not wait."""

    def queue_waiting_for(self, queue: str) -> list[WaitingFor]:
        """Return why a queue starts no attempts."""
