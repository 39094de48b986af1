"""The clients' methods for queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from poussetaches.client import requests
from poussetaches.client.caller import Caller
from poussetaches.client.dual_method import dual_method
from poussetaches.client.fields import QueueFields
from poussetaches.client.results import QueueInfo


class QueueMethods(Caller):
    """Methods for queues."""

    @dual_method
    async def queues(self) -> Sequence[QueueInfo]:
        """Return all queues, sorted by name."""
        return await self._send(requests.queues())

    @dual_method
    async def queue(self, name: str) -> QueueInfo:
        """Return a queue.

        Raises:
            NotFound: there is no queue with this name.
        """
        return await self._send(requests.queue(name))

    @dual_method
    async def put_queue(self, name: str, **settings: Unpack[QueueFields]) -> QueueInfo:
        """Replace all settings of a queue; omitted ones get the server's defaults."""
        return await self._send(requests.put_queue(name, settings))

    @dual_method
    async def edit_queue(self, name: str, **settings: Unpack[QueueFields]) -> QueueInfo:
        """Change some settings of a queue; None resets. An unknown queue is created."""
        return await self._send(requests.edit_queue(name, settings))

    @dual_method
    async def declare_queue(self, name: str, **settings: Unpack[QueueFields]) -> QueueInfo:
        """Declare the settings that the code defines for a queue.

        An operator's changes remain until the code declares different settings.
        """
        return await self._send(requests.declare_queue(name, settings))

    @dual_method
    async def delete_queue(self, name: str) -> None:
        """Delete a queue with its ended tasks.

        Raises:
            Conflict: the queue has waiting or running tasks, or is ``default``.
        """
        await self._send(requests.delete_queue(name))

    @dual_method
    async def pause_queue(self, name: str) -> QueueInfo:
        """Pause a queue: no more attempts of its tasks start."""
        return await self._send(requests.set_queue_paused(name, "pause"))

    @dual_method
    async def resume_queue(self, name: str) -> QueueInfo:
        """Resume a paused queue."""
        return await self._send(requests.set_queue_paused(name, "resume"))

    @dual_method
    async def purge_queue(self, name: str) -> int:
        """Delete a queue's waiting tasks; return their number."""
        return await self._send(requests.purge_queue(name))
