"""The seam between a push and what takes it; tests put their own in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from poussetaches.client.environment import Keys
from poussetaches.client.results import NewTask, ProgressReport, PushedTask, TaskInfo


class Pusher(Protocol):
    """Takes pushes, and tells what became of them."""

    def push(self, task: NewTask) -> PushedTask:
        """Take a task.

        Raises:
            PushFailed: it cannot be taken.
        """

    def push_all(self, tasks: Sequence[NewTask]) -> None:
        """Take several tasks, all or none, in the time of one push.

        Raises:
            PushFailed: they cannot be taken.
            Refused: one of them is not allowed.
        """

    async def apush(self, task: NewTask) -> PushedTask:
        """Do what ``push`` does, from asynchronous code."""

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
        """Return a task when it has ended, or as it is after ``timeout`` seconds."""

    async def aget(self, id: str) -> TaskInfo:
        """Do what ``get`` does, from asynchronous code."""

    async def await_end(self, id: str, timeout: float) -> TaskInfo:  # noqa: ASYNC109  # as wait
        """Do what ``wait`` does, from asynchronous code."""


class Replacement(NamedTuple):
    """What a test puts in the server's place, the keys it asks for, and who hears of errors."""

    pusher: Pusher
    keys: Keys | None
    on_error: Callable[[Exception], None] | None
