"""``TaskWaiters``: wakes requests that wait for tasks to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from starlette.requests import Request

from poussetaches.api.request_body import disconnected
from poussetaches.core.task import TaskState
from poussetaches.store.base import News

ENDED = frozenset({TaskState.SUCCEEDED, TaskState.DEAD})

Waiter = asyncio.Future[None]


class TaskWaiters:
    """Wakes waiting requests when the store commits the end of their task."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[Waiter]] = {}
        self._stopped = False

    def committed(self, news: News) -> None:
        """Wake the requests that wait for tasks that ended or were deleted."""
        if not self._waiters:
            return
        for change in news.tasks:
            if change.state is None or change.state in ENDED:
                for waiter in self._waiters.get(change.task_id, ()):
                    _wake(waiter)

    def stop(self) -> None:
        """Wake all requests, and make later ones return at once: the server is stopping."""
        self._stopped = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                _wake(waiter)

    @contextlib.contextmanager
    def waiter(self, task_id: str) -> Iterator[Waiter]:
        """Return a future that is done once the task ends."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        if self._stopped:
            _wake(waiter)
        waiters = self._waiters.setdefault(task_id, set())
        waiters.add(waiter)
        try:
            yield waiter
        finally:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(task_id, None)


async def wait_for_end(waiter: Waiter, request: Request, *, max_wait: float) -> None:
    """Wait until the task ends, the client disconnects, or ``max_wait`` seconds have passed."""
    disconnect = asyncio.ensure_future(disconnected(request.receive))
    try:
        await asyncio.wait(
            {waiter, disconnect}, timeout=max_wait, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        disconnect.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await disconnect


def _wake(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)
