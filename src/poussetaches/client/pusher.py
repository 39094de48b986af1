"""``Pusher``: accepts the pushes of task functions; tests replace it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from poussetaches.client.environment import Keys
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import ProgressReport, PushedTask, TaskInfo


class Pusher(Protocol):
    """Accepts pushes, and returns the state of their tasks."""

    def push(self, task: NewTask) -> PushedTask:
        """Push a task.

        Raises:
            PushFailed: the task was not pushed.
        """

    def push_all(self, tasks: Sequence[NewTask]) -> None:
        """Push several tasks, all or none, within the timeout of one push.

        Raises:
            PushFailed: the tasks were not pushed.
            Refused: one of them is not allowed.
        """

    async def apush(self, task: NewTask) -> PushedTask:
        """Asynchronous version of ``push``."""

    def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        """Report the progress of a running attempt.

        Raises:
            Conflict: the attempt is over.
            ClientError: the report cannot be sent.
        """

    def get(self, id: str) -> TaskInfo:
        """Return a task as it is now.

        Raises:
            NotFound: there is none.
        """

    def wait(self, id: str, timeout: float) -> TaskInfo:
        """Wait until a task has ended, for at most ``timeout`` seconds, and return it."""

    async def aget(self, id: str) -> TaskInfo:
        """Asynchronous version of ``get``."""

    async def await_end(self, id: str, timeout: float) -> TaskInfo:  # noqa: ASYNC109  # as wait
        """Asynchronous version of ``wait``."""


class Replacement(NamedTuple):
    """A test's pusher, the keys that its deliveries have, and its error handler."""

    pusher: Pusher
    keys: Keys | None
    on_error: Callable[[Exception], None] | None
