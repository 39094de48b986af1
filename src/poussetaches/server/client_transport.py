"""``ClientTransport``: sends all writes of one event loop iteration in one piece.

Event loops send each write at once, in a system call and a packet of its own.
"""

from __future__ import annotations

import asyncio

LARGE = 64 * 1024  # bytes; more are sent at once, so that long responses get backpressure


class ClientTransport:
    """A transport that buffers writes until the end of the event loop iteration."""

    def __init__(self, transport: asyncio.Transport, *, high_water: int) -> None:
        """Buffer writes; with ``high_water`` unread bytes, the client is not writable."""
        transport.set_write_buffer_limits(high=high_water)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._size = 0  # bytes held
        self._is_reading = True
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def unsent(self) -> int:
        """Bytes that the system has not accepted yet."""
        return self._size + self._transport.get_write_buffer_size()

    @property
    def is_closing(self) -> bool:
        """Whether the connection is closed, or closed after the data that was written."""
        return self._transport.is_closing()

    @property
    def is_writable(self) -> bool:
        """Whether the client reads what it is sent."""
        return self._writable.is_set()

    async def writable(self) -> None:
        """Wait until the client reads, or is gone."""
        await self._writable.wait()

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Note that the client reads, or is gone."""
        self._writable.set()

    def pause_reading(self) -> None:
        """Read nothing more from the client."""
        if self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the client again."""
        if not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send data at the end of the event loop iteration, or now if the buffer is full."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._size += len(data)
        if self._size >= LARGE:
            self.flush()

    def send(self, data: bytes) -> None:
        """Send data now, after the buffer."""
        if self._held:
            self._held.append(data)
            self.flush()
        elif not self._transport.is_closing():
            self._transport.write(data)

    def flush(self) -> None:
        """Send the buffer now."""
        held, self._held, self._size = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.write(b"".join(held))

    def close_writing(self) -> None:
        """Send the buffer, and tell the client that nothing more comes."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Send the buffer, and close the connection."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection now; unsent data is lost."""
        self._held, self._size = [], 0
        self._transport.abort()
