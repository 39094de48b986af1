"""The current task, for handlers and for log records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

from poussetaches.client.progress_reporter import ProgressReporter
from poussetaches.client.results import ProgressReport
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.progress_report import LONGEST_NOTE

NO_TASK = "-"  # in log lines outside of tasks


class NoCurrentTask(PousseTachesError, LookupError):
    """No task is running here; call current_task() in a handler, or in functions that it calls."""


@dataclass(frozen=True, kw_only=True)
class CurrentTask:
    """An attempt of a task, as described by its delivery."""

    id: str
    """The same for each of the task's attempts."""
    name: str
    queue: str
    attempt: int
    """Number of the attempt in its round, from 1."""
    round: int
    """Number of the round, from 1; a requeue begins the next."""
    request_id: str
    """Unique for each attempt."""
    deadline: datetime | None
    """The time at which the server ends this attempt; None if the code sets no timeout."""
    reporter: ProgressReporter = field(
        default_factory=lambda: ProgressReporter(None), repr=False, compare=False
    )
    """Sends what ``progress`` reports."""

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Report the progress of the work, in any unit; ``note`` is cut to 200 characters.

        At most one report per second is sent, and the last one when the handler ends. Reports that
        cannot be sent are logged.

        Raises:
            ValueError: ``done`` or ``total`` is not from 0 to 2**53, or ``note`` is not a str.
        """
        if isinstance(note, str):  # file names may contain invalid UTF-8
            note = note[:LONGEST_NOTE].encode(errors="replace").decode()
        self.reporter.report(ProgressReport(done, total, note))


_current: ContextVar[CurrentTask] = ContextVar("poussetaches_current_task")


def current_task() -> CurrentTask:
    """Return the current task.

    Raises:
        NoCurrentTask: the caller is not in a handler, or in a thread that a handler started.
    """
    try:
        return _current.get()
    except LookupError:
        raise NoCurrentTask from None


@contextmanager
def running(task: CurrentTask) -> Iterator[None]:
    """Set the current task within the block."""
    token = _current.set(task)
    try:
        yield
    finally:
        _current.reset(token)


class TaskLogFilter(logging.Filter):
    """Adds ``task``, ``attempt`` and ``request`` to log records; they are "-" outside of tasks.

    Add it to a handler, not to a logger: a logger's filters do not apply to its children.
    Values that a record already has, through ``extra``, are kept.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; no record is dropped."""
        task = _current.get(None)
        fields: dict[str, object] = {
            "task": task.id if task else NO_TASK,
            "attempt": task.attempt if task else NO_TASK,
            "request": task.request_id if task else NO_TASK,
        }
        record.__dict__.update(fields | record.__dict__)
        return True
