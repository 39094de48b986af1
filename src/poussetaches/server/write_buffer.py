"""``BufferingTransport``: sends all writes of one event loop iteration in one piece.

uvicorn writes the head and the body of a response separately. uvloop sends each write at once, in
a system call and a packet of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

LARGE = 64 * 1024  # bytes; more are sent at once, so that long responses get backpressure


class BufferingTransport(asyncio.Transport):
    """A transport that buffers writes until the end of the event loop iteration."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: list[bytes | bytearray | memoryview[Any]] = []
        self._size = 0  # bytes held

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send data at the end of the event loop iteration, or now if the buffer is full."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._size += len(data)
        if self._size >= LARGE:
            self._send()

    def write_eof(self) -> None:
        """Send the buffer, and close the writing side."""
        self._send()
        self._transport.write_eof()

    def close(self) -> None:
        """Send the buffer, and close the connection."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection without sending the buffer."""
        self._held.clear()
        self._size = 0
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is being closed."""
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that the system has not accepted yet, held ones included."""
        return self._size + self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the buffer sizes at which the protocol pauses and resumes writing."""
        self._transport.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        """Stop reading."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Continue reading."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol that reads from now on."""
        self._transport.set_protocol(protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information about the connection."""
        return self._transport.get_extra_info(name, default)

    def _send(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held:
            self._transport.writelines(held)
