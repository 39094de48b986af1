"""The handle of a pushed task: its state, and its handler's return value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

from poussetaches.client.argument_types import checked
from poussetaches.client.call import check_name_or_id
from poussetaches.client.codec import Codec, CodecError
from poussetaches.client.durations import Seconds, in_seconds
from poussetaches.client.pusher import Pusher
from poussetaches.client.results import PushedTask, TaskInfo
from poussetaches.core.errors import PousseTachesError

R_co = TypeVar("R_co", covariant=True)


class TaskFailed(PousseTachesError):
    """The task died; ``task`` has the details."""

    def __init__(self, task: TaskInfo) -> None:
        super().__init__(
            f"the task {task.id} died, {task.reason}: {task.last_error or 'no answer'}"
        )
        self.task = task


class NoResult(PousseTachesError):
    """The task succeeded, but its return value is not available."""


class ResultTruncated(NoResult):
    """The return value is longer than 64 KiB, the limit for stored responses."""


class Pushed(Generic[R_co]):
    """A pushed task.

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

    @checked
    def wait(self, timeout: Seconds) -> TaskInfo:
        """Wait until the task has ended, for at most ``timeout`` seconds, and return it."""
        return self._pusher.wait(self.id, in_seconds(timeout))

    @checked
    def result(self, timeout: Seconds = 0.0) -> R_co:
        """Return the handler's return value, decoded as its annotated return type.

        Raises:
            TimeoutError: the task has not ended within ``timeout`` seconds.
            TaskFailed: it died.
            ResultTruncated: the return value is longer than 64 KiB.
            NoResult: the return value has no JSON, or does not match the annotation.
        """
        return self._result_of(self.wait(timeout))

    async def arefresh(self) -> TaskInfo:
        """Asynchronous version of ``refresh``."""
        return await self._pusher.aget(self.id)

    @checked
    async def await_end(self, timeout: Seconds) -> TaskInfo:  # noqa: ASYNC109  # the server waits
        """Asynchronous version of ``wait``."""
        return await self._pusher.await_end(self.id, in_seconds(timeout))

    async def aresult(self, timeout: Seconds = 0.0) -> R_co:  # noqa: ASYNC109  # the server waits
        """Asynchronous version of ``result``."""
        return self._result_of(await self.await_end(timeout))

    def _result_of(self, task: TaskInfo) -> R_co:
        if task.state == "dead":
            raise TaskFailed(task)
        if task.state != "succeeded":
            raise TimeoutError(f"the task {task.id} has not ended; its state is {task.state}")
        if not task.attempts:
            raise NoResult("the server has no attempts of this task")
        answer = task.attempts[-1]
        if answer.response_truncated:
            raise ResultTruncated
        if not answer.response_body:
            raise NoResult("the handler's return value has no JSON; see the application's log")
        try:
            value = Codec(self._return_type(task)).decode(answer.response_body.encode())
        except CodecError as exc:
            raise NoResult(
                f"the handler's return value does not match its return type: {exc}"
            ) from exc
        return cast("R_co", value)
