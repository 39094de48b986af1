"""``BodyStream``: a response body that is read while it arrives."""

from __future__ import annotations

import asyncio

from poussetaches.http_client.errors import RequestFailed

MAX_BUFFERED = 256 * 1024  # bytes; with more, nothing is read from the connection


class BodyStream:
    """The pieces of a body. The connection feeds it, and one coroutine reads it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._pieces: list[bytes] = []
        self._size = 0
        self._has_ended = False
        self._error: RequestFailed | None = None
        self._arrived = asyncio.Event()

    def feed(self, piece: bytes) -> None:
        """Add a piece."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MAX_BUFFERED:
            self._transport.pause_reading()
        self._arrived.set()

    def finish(self) -> None:
        """End the body."""
        self._has_ended = True
        self._arrived.set()

    def fail(self, error: RequestFailed) -> None:
        """End the body by an error, which the reader gets after the pieces."""
        self._error = error
        self.finish()

    async def read(self) -> bytes:
        """Return everything that has arrived; wait for it if necessary; empty at the end.

        Raises:
            RequestFailed: the connection was lost.
        """
        await self._arrived.wait()
        if not self._has_ended:
            self._arrived.clear()
        found = b"".join(self._pieces)
        self._pieces.clear()
        if self._size > MAX_BUFFERED and not self._transport.is_closing():
            self._transport.resume_reading()
        self._size = 0
        if not found and self._error is not None:
            raise self._error
        return found
