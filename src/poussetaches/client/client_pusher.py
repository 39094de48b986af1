"""``ClientPusher``: pushes of task functions to the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from poussetaches.client.client import AsyncClient, Client
from poussetaches.client.declaration_sender import RoutedQueue
from poussetaches.client.errors import ClientError, PushFailed
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import ProgressReport, PushedTask, TaskInfo
from poussetaches.client.single_push import is_refusal


class ClientPusher:
    """Pushes to the server.

    ``routing`` returns the settings of a queue whose base URL is in the code, None for others.
    Such a queue is declared before the first push to it: the server's own base URL may belong to
    another application.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        async_client: Callable[[], AsyncClient],
        *,
        routing: Callable[[str | None], RoutedQueue | None] = lambda _: None,
    ) -> None:
        self._client = client
        self._async_client = async_client
        self._routing = routing
        self._declared: set[str] = set()

    def push(self, task: NewTask) -> PushedTask:
        client = self._client()
        self._declare_queues(client, [task])
        return client.push(**push_fields(task))

    def push_all(self, tasks: Sequence[NewTask]) -> None:
        client = self._client()
        self._declare_queues(client, tasks)
        client.push_many(tasks, timeout=client.push_timeout)

    async def apush(self, task: NewTask) -> PushedTask:
        client = self._async_client()
        for queue in self._undeclared([task]):
            with _failing([task]):
                await client.declare_queue(
                    queue.name,
                    owner=queue.declarer.owner,
                    modules=queue.declarer.modules,
                    **queue.settings,
                )
            self._declared.add(queue.name)
        return await client.push(**push_fields(task))

    def _declare_queues(self, client: Client, tasks: Sequence[NewTask]) -> None:
        for queue in self._undeclared(tasks):
            with _failing(tasks):
                client.declare_queue(
                    queue.name,
                    owner=queue.declarer.owner,
                    modules=queue.declarer.modules,
                    **queue.settings,
                )
            self._declared.add(queue.name)

    def _undeclared(self, tasks: Sequence[NewTask]) -> list[RoutedQueue]:
        """Return the queues of tasks that must be declared first."""
        found = {name: self._routing(name) for name in dict.fromkeys(it.queue for it in tasks)}
        return [it for it in found.values() if it is not None and it.name not in self._declared]

    def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        self._client().report_progress(id, token, report)

    def get(self, id: str) -> TaskInfo:
        return self._client().get(id)

    def wait(self, id: str, timeout: float) -> TaskInfo:
        return self._client().wait(id, timeout)

    async def aget(self, id: str) -> TaskInfo:
        return await self._async_client().get(id)

    async def await_end(self, id: str, timeout: float) -> TaskInfo:  # noqa: ASYNC109  # as wait
        return await self._async_client().wait(id, timeout)


@contextmanager
def _failing(tasks: Sequence[NewTask]) -> Iterator[None]:
    """Raise ``PushFailed`` if the queue of some tasks cannot be declared.

    Raises:
        Refused: the server refuses the declaration, for example as another application's.
    """
    try:
        yield
    except ClientError as exc:
        if is_refusal(exc):
            raise
        raise PushFailed(tasks, exc) from exc


def push_fields(task: NewTask) -> dict[str, Any]:
    """Return the arguments of a client's ``push`` for a task."""
    fields: dict[str, Any] = msgspec.structs.asdict(task)
    return {name: value for name, value in fields.items() if value is not None}
