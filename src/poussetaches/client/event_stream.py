"""Reads server-sent events from the pieces of a stream."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from poussetaches.client.results import Event

OK = 200  # the status of a stream
SILENCE = 40.0  # seconds; the server sends a comment every 15
MIN_PAUSE = 0.5  # seconds before a reconnect; doubles each time
MAX_PAUSE = 10.0  # seconds


class EventReader:
    """Parses a stream of events; ``last_id`` is where a reconnect resumes."""

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id
        self._rest = b""
        self._pause = MIN_PAUSE

    def next_pause(self) -> float:
        """Return the seconds to wait before reconnecting; discard an incomplete event."""
        self._rest = b""
        pause, self._pause = self._pause, min(2 * self._pause, MAX_PAUSE)
        return pause

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that this piece completes."""
        *blocks, self._rest = (self._rest + piece).split(b"\n\n")
        for block in blocks:
            self._pause = MIN_PAUSE
            event = self._read(block)
            if event is not None:
                yield event

    def _read(self, block: bytes) -> Event | None:
        name, data = "", ""
        for line in block.decode("utf-8", "replace").splitlines():
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data += value
        if not data:
            return None
        return Event(self.last_id or "", name, msgspec.json.decode(data, type=dict))
