"""``RunningAttempts``: the attempts in flight, and the progress that their handlers report."""

from __future__ import annotations

from poussetaches.core.errors import AttemptOver
from poussetaches.core.progress_report import Progress, attempt_token, is_token_of
from poussetaches.core.task import Task


class RunningAttempts:
    """Keeps the progress of each attempt in memory until the attempt ends."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._running: dict[str, _Running] = {}

    def begin(self, task: Task, request_id: str) -> str:
        """Add an attempt, and return the token for reports of its progress."""
        self._running[task.id] = _Running(task, request_id)
        return attempt_token(self._secret, request_id)

    def report(self, task_id: str, token: str, progress: Progress) -> Task:
        """Keep the progress of an attempt, and return its task.

        Raises:
            AttemptOver: no attempt of this task with this token is running.
        """
        running = self._running.get(task_id)
        if running is None or not is_token_of(token, self._secret, running.request_id):
            raise AttemptOver
        running.progress = progress
        return running.task

    def progress_of(self, task_id: str) -> Progress | None:
        """Return the last progress report of a task's running attempt."""
        running = self._running.get(task_id)
        return None if running is None else running.progress

    def end(self, task_id: str) -> Progress | None:
        """Forget an attempt, and return its last progress."""
        running = self._running.pop(task_id, None)
        return None if running is None else running.progress


class _Running:
    __slots__ = ("progress", "request_id", "task")

    def __init__(self, task: Task, request_id: str) -> None:
        self.task = task
        self.request_id = request_id
        self.progress: Progress | None = None
