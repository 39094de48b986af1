"""Misbehaving receivers, each on its own port."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PIECE = b"x" * 32 * 1024
PAUSE = 0.02  # seconds between two bytes of a slow answer


@asynccontextmanager
async def misbehaving(
    handler: Handler, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve on a free port; yield the host and port."""
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        with suppress(ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        handling.discard(task)
        writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        for task in list(handling):
            task.cancel()
        if handling:
            await asyncio.wait(set(handling))
        await server.wait_closed()


def answers(*pieces: bytes) -> Handler:
    """Return a handler that reads the request's head, writes these bytes and disconnects."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        if writer.can_write_eof():  # TLS cannot close one direction
            writer.write_eof()
        while await reader.read(65_536):
            pass

    return handle


def repeats(begin: bytes, piece: bytes) -> Handler:
    """Return a handler that writes one text, and then repeats another."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        while True:
            writer.write(piece)
            await writer.drain()

    return handle


def dribbles(begin: bytes) -> Handler:
    """Return a handler that writes a text, and then single bytes with pauses."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(PAUSE)

    return handle


def stops_after(begin: bytes) -> Handler:
    """Return a handler that writes a text and then stalls."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        await silent(reader, writer)

    return handle


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read, and write nothing."""
    while await reader.read(65_536):
        pass


async def talkative(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer several times before the request arrives."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * 3)
    await silent(reader, writer)
