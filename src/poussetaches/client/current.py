"""The task that is running: what a handler may ask about it, and what its log lines say."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

from poussetaches.client.progress import ProgressReporter
from poussetaches.client.results import ProgressReport
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.progress_report import LONGEST_NOTE

NO_TASK = "-"  # in log lines outside of tasks


class NoCurrentTask(PousseTachesError, LookupError):
    """No task is running here: current_task() is for handlers, and for what they call."""


@dataclass(frozen=True, kw_only=True)
class CurrentTask:
    """One attempt at a task, as the request that delivered it describes it."""

    id: str
    """The same for each of the task's attempts."""
    name: str
    queue: str
    attempt: int
    """Number of the attempt in its round, from 1."""
    round: int
    """Number of the round, from 1; a requeue begins the next."""
    request_id: str
    """Another one for each attempt."""
    deadline: datetime | None
    """When the server gives this attempt up, where the code says its timeout."""
    reporter: ProgressReporter = field(
        default_factory=lambda: ProgressReporter(None), repr=False, compare=False
    )
    """Sends what ``progress`` reports."""

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Report how far the work has come, in any unit; ``note`` is cut to 200 characters.

        May be called as often as you like: at most one report a second is sent, and the last one
        when the handler ends. Reports that cannot be sent are logged.

        Raises:
            ValueError: ``done`` or ``total`` is no number from 0 to 2**53, or ``note`` no str.
        """
        if isinstance(note, str):  # a file name may hold what is not UTF-8
            note = note[:LONGEST_NOTE].encode(errors="replace").decode()
        self.reporter.report(ProgressReport(done, total, note))


_current: ContextVar[CurrentTask] = ContextVar("poussetaches_current_task")


def current_task() -> CurrentTask:
    """Return the task that is running.

    Raises:
        NoCurrentTask: called outside of a handler, or in a thread that a handler started.
    """
    try:
        return _current.get()
    except LookupError:
        raise NoCurrentTask from None


@contextmanager
def running(task: CurrentTask) -> Iterator[None]:
    """Make a task the current one, within the block."""
    token = _current.set(task)
    try:
        yield
    finally:
        _current.reset(token)


class TaskLogFilter(logging.Filter):
    """Gives each log record ``task``, ``attempt`` and ``request``, which are "-" outside of tasks.

    Add it to a handler, not to a logger: loggers below one do not pass through its filters.
    A record that has one of these already, through ``extra``, keeps it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; no record is held back."""
        task = _current.get(None)
        fields: dict[str, object] = {
            "task": task.id if task else NO_TASK,
            "attempt": task.attempt if task else NO_TASK,
            "request": task.request_id if task else NO_TASK,
        }
        record.__dict__.update(fields | record.__dict__)
        return True
