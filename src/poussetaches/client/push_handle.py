"""The handle of a pushed task: what became of it, and what its handler returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

from poussetaches.client.call import check_name_or_id
from poussetaches.client.codec import Codec, CodecError
from poussetaches.client.durations import Seconds, in_seconds
from poussetaches.client.pusher import Pusher
from poussetaches.client.results import PushedTask, TaskInfo
from poussetaches.core.errors import PousseTachesError

R_co = TypeVar("R_co", covariant=True)


class TaskFailed(PousseTachesError):
    """The task died; it is in ``task``."""

    def __init__(self, task: TaskInfo) -> None:
        super().__init__(
            f"the task {task.id} died, {task.reason}: {task.last_error or 'no answer'}"
        )
        self.task = task


class NoResult(PousseTachesError):
    """The task succeeded, and what its handler returned cannot be read."""


class ResultTruncated(NoResult):
    """What the handler returned was longer than the 64 KiB that are kept of an answer."""


class Pushed(Generic[R_co]):
    """A task that was pushed.

    Raises:
        ArgumentError: its id is not a string.
    """

    def __init__(
        self, pushed: PushedTask, *, pusher: Pusher, return_type: Callable[[TaskInfo], object]
    ) -> None:
        check_name_or_id(pushed.id)
        self.id = pushed.id
        self.existing = pushed.existing
        self._pusher = pusher
        self._return_type = return_type

    def __repr__(self) -> str:
        return f"<Pushed {self.id}>"

    def refresh(self) -> TaskInfo:
        """Return the task as it is now.

        Raises:
            NotFound: it was deleted, or pruned long after its end.
        """
        return self._pusher.get(self.id)

    def wait(self, timeout: Seconds) -> TaskInfo:
        """Return the task when it has ended, or as it is after ``timeout`` seconds."""
        return self._pusher.wait(self.id, in_seconds(timeout))

    def result(self, timeout: Seconds = 0.0) -> R_co:
        """Return what the handler returned, as the type that it says it returns.

        Raises:
            TimeoutError: the task has not ended within ``timeout`` seconds; by default, yet.
            TaskFailed: it died.
            ResultTruncated: what the handler returned is longer than 64 KiB.
            NoResult: what it returned has no JSON, or is of another type than it says.
        """
        return self._result_of(self.wait(timeout))

    async def arefresh(self) -> TaskInfo:
        """Do what ``refresh`` does, from asynchronous code."""
        return await self._pusher.aget(self.id)

    async def await_end(self, timeout: Seconds) -> TaskInfo:  # noqa: ASYNC109  # the server waits
        """Do what ``wait`` does, from asynchronous code."""
        return await self._pusher.await_end(self.id, in_seconds(timeout))

    async def aresult(self, timeout: Seconds = 0.0) -> R_co:  # noqa: ASYNC109  # the server waits
        """Do what ``result`` does, from asynchronous code."""
        return self._result_of(await self.await_end(timeout))

    def _result_of(self, task: TaskInfo) -> R_co:
        if task.state == "dead":
            raise TaskFailed(task)
        if task.state != "succeeded":
            raise TimeoutError(f"the task {task.id} has not ended; it is {task.state}")
        if not task.attempts:
            raise NoResult("the attempts of the task are not kept")
        answer = task.attempts[-1]
        if answer.response_truncated:
            raise ResultTruncated
        if not answer.response_body:
            raise NoResult("what the handler returned has no JSON; the application's log says why")
        try:
            value = Codec(self._return_type(task)).decode(answer.response_body.encode())
        except CodecError as exc:
            raise NoResult(f"what the handler returned is not what it says: {exc}") from exc
        return cast("R_co", value)
