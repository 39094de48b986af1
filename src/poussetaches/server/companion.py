"""``Companion``: a program that is started after the server and ended before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from poussetaches.engine.queue_registry import Queues


class Companion(Protocol):
    """Started when the server listens, and ended while it still does."""

    async def prepare(self, address: str) -> None:
        """Wait until it can be started; ``address`` is the server's."""

    async def start(self, address: str, stop: Callable[[], None]) -> None:
        """Start it; ``address`` is the server's, and ``stop`` ends the server."""

    async def ready(self, queues: Queues) -> None:
        """Wait until deliveries may begin; ``queues`` are the server's."""

    async def end(self, number: int | None) -> int:
        """End it, by the received signal if any; return the server's exit status.

        It may not have been started.
        """

    def kill(self) -> None:
        """Kill the program: the server failed."""


class Alone:
    """No companion: the server runs alone, as with ``serve``."""

    async def prepare(self, address: str) -> None:
        """Wait for nothing."""

    async def start(self, address: str, stop: Callable[[], None]) -> None:
        """Start nothing."""

    async def ready(self, queues: Queues) -> None:
        """Deliver at once."""

    async def end(self, number: int | None) -> int:
        """Return the status of success."""
        return 0

    def kill(self) -> None:
        """End nothing."""
