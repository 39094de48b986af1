"""The clients' methods for queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from poussetaches.client.call import Call, Query, optional_query, path_of
from poussetaches.client.caller import BULK_TIMEOUT, Caller
from poussetaches.client.dual_method import dual_method
from poussetaches.client.request_fields import QueueFields
from poussetaches.client.request_json import encode_request
from poussetaches.client.results import QueueInfo, QueueList
from poussetaches.core.responses import Purged

QUEUES = "/v1/queues"
DECLARED: Query = (("declared", "true"),)  # older servers ignore it, and change the settings


class QueueMethods(Caller):
    """Methods for queues."""

    @dual_method
    async def queues(self) -> Sequence[QueueInfo]:
        """Return all queues, sorted by name."""
        return (await self._read(Call("GET", QUEUES), QueueList)).queues

    @dual_method
    async def queue(self, name: str) -> QueueInfo:
        """Return a queue.

        Raises:
            NotFound: there is no queue with this name.
        """
        return await self._read(Call("GET", path_of(QUEUES, name)), QueueInfo)

    @dual_method
    async def put_queue(self, name: str, **settings: Unpack[QueueFields]) -> QueueInfo:
        """Replace all settings of a queue; omitted ones get the server's defaults."""
        return await self._set("PUT", name, settings)

    @dual_method
    async def edit_queue(self, name: str, **settings: Unpack[QueueFields]) -> QueueInfo:
        """Change some settings of a queue; None resets. An unknown queue is created."""
        return await self._set("PATCH", name, settings)

    @dual_method
    async def declare_queue(
        self,
        name: str,
        *,
        owner: str | None = None,
        modules: Sequence[str] = (),
        **settings: Unpack[QueueFields],
    ) -> QueueInfo:
        """Declare the settings that the code defines for a queue.

        An operator's changes remain until the code declares different settings. ``owner`` is as in
        ``declare_schedules``; ``modules`` are the top-level modules of the application's tasks.

        Raises:
            Conflict: another application declared the queue.
        """
        names = ",".join(modules) or None
        query = (*DECLARED, *optional_query(owner=owner, modules=names))
        return await self._set("PATCH", name, settings, query)

    @dual_method
    async def delete_queue(self, name: str) -> None:
        """Delete a queue with its ended tasks.

        Raises:
            Conflict: the queue has waiting or running tasks, or is ``default``.
        """
        await self._do(Call("DELETE", path_of(QUEUES, name)), min_timeout=BULK_TIMEOUT)

    @dual_method
    async def pause_queue(self, name: str) -> QueueInfo:
        """Pause a queue: no more attempts of its tasks start."""
        return await self._read(Call("POST", path_of(QUEUES, name, "pause")), QueueInfo)

    @dual_method
    async def resume_queue(self, name: str) -> QueueInfo:
        """Resume a paused queue."""
        return await self._read(Call("POST", path_of(QUEUES, name, "resume")), QueueInfo)

    @dual_method
    async def purge_queue(self, name: str) -> int:
        """Delete a queue's waiting tasks; return their number."""
        call = Call("POST", path_of(QUEUES, name, "purge"))
        return (await self._read(call, Purged, min_timeout=BULK_TIMEOUT)).count

    async def _set(
        self, method: str, name: str, settings: QueueFields, query: Query = ()
    ) -> QueueInfo:
        call = Call(method, path_of(QUEUES, name), query, encode_request(settings))
        return await self._read(call, QueueInfo)
