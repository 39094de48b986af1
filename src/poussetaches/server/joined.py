"""``JoinedTransport``: sends in one piece what is written in one turn of the event loop.

uvicorn writes the head of an answer and its body one after the other. uvloop sends each at once,
which makes two system calls and two packets of what fits into one.
"""

from __future__ import annotations

import asyncio
from typing import Any

LARGE = 64 * 1024  # bytes; more are sent at once, so that long responses get backpressure


class JoinedTransport(asyncio.Transport):
    """A transport that holds what is written until the event loop has gone round."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: list[bytes | bytearray | memoryview[Any]] = []
        self._size = 0  # bytes held

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send data, at the latest when the event loop has gone round."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)
        self._size += len(data)
        if self._size >= LARGE:
            self._send()

    def write_eof(self) -> None:
        """Send what is held, and say that nothing more comes."""
        self._send()
        self._transport.write_eof()

    def close(self) -> None:
        """Send what is held, and hang up."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        self._held.clear()
        self._size = 0
        self._transport.abort()

    def is_closing(self) -> bool:
        """Tell whether it is hanging up."""
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that the system has not accepted yet, held ones included."""
        return self._size + self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the buffer sizes at which the protocol pauses and resumes writing."""
        self._transport.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        """Take nothing more for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more again."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol read from now on."""
        self._transport.set_protocol(protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        return self._transport.get_extra_info(name, default)

    def _send(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held:
            self._transport.writelines(held)
