"""``TaskWaiters``: wakes those who wait for tasks to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from starlette.requests import Request

from poussetaches.core.task import TaskState
from poussetaches.store.base import News

ENDED = frozenset({TaskState.SUCCEEDED, TaskState.DEAD})

Ending = asyncio.Future[None]


class TaskWaiters:
    """Listens to a store for the ends of tasks that somebody waits for."""

    def __init__(self) -> None:
        self._endings: dict[str, set[Ending]] = {}
        self._stopped = False

    def committed(self, news: News) -> None:
        """Wake those who wait for a task that has ended or was deleted."""
        if not self._endings:
            return
        for change in news.tasks:
            if change.state is None or change.state in ENDED:
                for ending in self._endings.get(change.task_id, ()):
                    _wake(ending)

    def stop(self) -> None:
        """Wake everybody, and let nobody wait any more: the server stops."""
        self._stopped = True
        for endings in self._endings.values():
            for ending in endings:
                _wake(ending)

    @contextlib.contextmanager
    def watching(self, task_id: str) -> Iterator[Ending]:
        """Return a future that is done when the task ends from now on."""
        ending: Ending = asyncio.get_running_loop().create_future()
        if self._stopped:
            _wake(ending)
        endings = self._endings.setdefault(task_id, set())
        endings.add(ending)
        try:
            yield ending
        finally:
            endings.discard(ending)
            if not endings:
                self._endings.pop(task_id, None)


async def wait_for_end(ending: Ending, request: Request, *, patience: float) -> None:
    """Wait for a task's end, for the client to hang up, or for so many seconds."""
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({ending, gone}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gone


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _wake(ending: Ending) -> None:
    if not ending.done():
        ending.set_result(None)
