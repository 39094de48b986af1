"""Who is told of attempts as they start and end."""

from __future__ import annotations

from typing import Protocol

from poussetaches.core.moment import Moment
from poussetaches.core.task import Attempt, Task


class Observer(Protocol):
    """Watches attempts. Its methods are quick and never raise."""

    def attempt_started(self, task: Task, *, now: Moment) -> None:
        """Take note that an attempt starts; what is late is ``now - task.run_at``."""

    def attempt_ended(self, task: Task, attempt: Attempt, *, now: Moment) -> None:
        """Take note of what an attempt that counts came to."""

    def attempt_put_back(self, task: Task) -> None:
        """Take note of an attempt that did not count."""


class Nobody:
    """An observer that does not look."""

    def attempt_started(self, task: Task, *, now: Moment) -> None:
        """Do nothing."""

    def attempt_ended(self, task: Task, attempt: Attempt, *, now: Moment) -> None:
        """Do nothing."""

    def attempt_put_back(self, task: Task) -> None:
        """Do nothing."""
