"""``Observer``: the interface for observing attempts."""

from __future__ import annotations

from typing import Protocol

from poussetaches.core.moment import Moment
from poussetaches.core.task import Attempt, Task
from poussetaches.engine.defects import Defects


class Observer(Protocol):
    """Is called for each attempt. Its methods are quick and never raise."""

    def attempt_started(self, task: Task, *, now: Moment) -> None:
        """Record that an attempt starts; it is late by ``now - task.run_at``."""

    def attempt_ended(self, task: Task, attempt: Attempt, *, now: Moment) -> None:
        """Record the result of an attempt that counts."""

    def attempt_put_back(self, task: Task) -> None:
        """Record that an attempt did not count."""


class GuardedObserver:
    """Forwards calls to another observer; its exceptions are defects, and cost no attempt."""

    def __init__(self, observer: Observer, defects: Defects) -> None:
        self._observer = observer
        self._defects = defects

    def attempt_started(self, task: Task, *, now: Moment) -> None:
        try:
            self._observer.attempt_started(task, now=now)
        except Exception as exc:
            self._note(exc, task)

    def attempt_ended(self, task: Task, attempt: Attempt, *, now: Moment) -> None:
        try:
            self._observer.attempt_ended(task, attempt, now=now)
        except Exception as exc:
            self._note(exc, task)

    def attempt_put_back(self, task: Task) -> None:
        try:
            self._observer.attempt_put_back(task)
        except Exception as exc:
            self._note(exc, task)

    def _note(self, exc: Exception, task: Task) -> None:
        self._defects.note("observer of attempts failed", exc, task=task.id)


class NullObserver:
    """An observer that does nothing."""

    def attempt_started(self, task: Task, *, now: Moment) -> None:
        """Do nothing."""

    def attempt_ended(self, task: Task, attempt: Attempt, *, now: Moment) -> None:
        """Do nothing."""

    def attempt_put_back(self, task: Task) -> None:
        """Do nothing."""
