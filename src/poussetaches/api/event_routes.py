"""The stream of server-sent events, ``GET /v1/events``."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from poussetaches.api.endpoint import Endpoint, read_query
from poussetaches.api.event_hub import MAX_CLOSE_TIME, EventHub, Reader
from poussetaches.api.request_body import disconnected
from poussetaches.api.request_limits import RequestLimits
from poussetaches.core.queue import Name

EVENT_STREAM = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the latter is for nginx

log = logging.getLogger(__name__)


class EventQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The queue whose events are sent; None for all queues."""

    queue: Name | None = None


@dataclass(frozen=True)
class EventRoutes:
    """Serves the events."""

    hub: EventHub
    request_limits: RequestLimits

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path="/v1/events",
                handler=self.events,
                summary="Send changes as server-sent events",
                tag="Operations",
                query=EventQuery,
                responses={200: str},
                response_media_type=EVENT_STREAM,
            )
        ]

    async def events(self, request: Request) -> Response:
        """Send changes from now on, or after the last event that the client received."""
        query = read_query(request, EventQuery)
        if request.method == "HEAD":
            return Response(media_type=EVENT_STREAM, headers=HEADERS)
        last_event_id = request.headers.get("last-event-id") or None
        reader = Reader(self.hub, queue=query.queue, last_event_id=last_event_id)
        return EventStream(self.hub, self.request_limits, reader=reader)


class EventStream(Response):
    """A response of events until the client leaves or is dropped, or the hub is closed."""

    media_type = EVENT_STREAM

    def __init__(self, hub: EventHub, request_limits: RequestLimits, *, reader: Reader) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._hub = hub
        self._request_limits = request_limits
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events.

        Raises:
            Problem: 503, there are too many readers.
        """
        with self._request_limits.parked(scope):
            await self._stream(receive, send)

    async def _stream(self, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        writing = asyncio.create_task(self._reader.write(send))
        leaving = asyncio.create_task(disconnected(receive))
        self._hub.add_reader(self._reader, writing)
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            was_dropped = writing.cancelled()
        finally:
            self._hub.remove_reader(self._reader)
            for task in (writing, leaving):
                task.cancel()
            results = await asyncio.gather(writing, leaving, return_exceptions=True)
        if was_dropped:
            behind = self._hub.last - self._reader.number
            log.info("event reader dropped", extra={"behind": behind})
        for result in results:
            if isinstance(result, Exception):
                raise result
        # The server aborts a connection whose client never reads (server/connection_limits.py).
        patience = MAX_CLOSE_TIME if self._hub.closed else None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
