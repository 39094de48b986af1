"""The clients' methods for the server as a whole: pause, statistics, events."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from msgspec.structs import replace

from poussetaches.client.call import Call, optional_query
from poussetaches.client.caller import Caller
from poussetaches.client.dual_method import dual_iterator, dual_method
from poussetaches.client.errors import NoAnswer, Refused
from poussetaches.client.event_stream import OK, SILENCE, EventReader
from poussetaches.client.results import Event, StatsInfo
from poussetaches.client.retry_timer import is_temporary
from poussetaches.client.server_answer import check_events, refusal
from poussetaches.core.responses import ServerPause


class ServerMethods(Caller):
    """Methods for the server as a whole."""

    @dual_method
    async def pause(self) -> bool:
        """Pause the server: no more attempts start. Return whether it is paused."""
        return (await self._read(Call("POST", "/v1/pause"), ServerPause)).paused

    @dual_method
    async def resume(self) -> bool:
        """Resume a paused server; return whether it is paused."""
        return (await self._read(Call("POST", "/v1/resume"), ServerPause)).paused

    @dual_method
    async def stats(self, minutes: int = 60, *, queue: str | None = None) -> StatsInfo:
        """Return the server's current state, and its activity in the last minutes."""
        query = optional_query(minutes=str(minutes), queue=queue)
        return await self._read(Call("GET", "/v1/stats", query), StatsInfo)

    @dual_iterator
    async def events(
        self, queue: str | None = None, *, last_event_id: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield events, from now on or from the given event on, without end.

        After a lost connection it reconnects and resumes at the last event.

        Raises:
            NoAnswer: the first connection failed.
        """
        reader, connected = EventReader(last_event_id), False
        while True:
            headers = optional_query(**{"Last-Event-ID": reader.last_id})
            call = Call("GET", "/v1/events", optional_query(queue=queue), headers=headers)
            try:
                async with self._transport.stream(call, silence=SILENCE) as stream:
                    if stream.head.status != OK:
                        body = b"".join([piece async for piece in stream.pieces()])
                        raise refusal(replace(stream.head, body=body))
                    check_events(stream.head)
                    connected = True
                    async for piece in stream.pieces():
                        for event in reader.feed(piece):
                            yield event
            except (NoAnswer, Refused) as exc:
                if not connected or not is_temporary(exc):
                    raise
            await self._sleep(reader.next_pause())
