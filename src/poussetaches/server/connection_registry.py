"""``ConnectionRegistry``: the open connections of a server, and the tasks of their requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

log = logging.getLogger(__name__)


class OpenConnection(Protocol):
    """A connection as the registry needs it."""

    def shut_down(self) -> None:
        """Close the connection after the last response that is due."""

    def abort(self) -> None:
        """Close the connection now; unsent data is lost."""


class ConnectionRegistry:
    """Counts connections from their acceptance until their descriptors are free."""

    def __init__(self) -> None:
        self.connections: set[OpenConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def opened(self, connection: OpenConnection) -> None:
        """Register a new connection."""
        self.connections.add(connection)

    def closed(self, connection: OpenConnection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self._changed.set()

    def run(self, request: Coroutine[Any, Any, None]) -> None:
        """Answer a request in a task."""
        task = asyncio.get_running_loop().create_task(request)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def end(self, limit: float) -> None:
        """Close the connections after their last response, or at the latest after some seconds."""
        for connection in list(self.connections):
            connection.shut_down()
        try:
            async with asyncio.timeout(limit):
                while self.connections or self._tasks:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log.warning("requests cut off", extra={"count": len(self._tasks)})
            for connection in list(self.connections):
                connection.abort()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
