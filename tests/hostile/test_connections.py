"""Connections that bring nothing, or too little: they take no room from those that do."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from poussetaches.api.reading import read_body
from poussetaches.server.descriptors import MOST_CONNECTIONS
from poussetaches.server.http_server import HttpServer
from poussetaches.server.patience import Patience
from tests.acceptance.harness import Server
from tests.effort import LONG
from tests.hostile.wire import connect, head, is_closed, push

GET = head(b"GET / HTTP/1.1")
IDLE = 5_000 if LONG else 800
LOOKS = 2


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what was sent."""
    body = await read_body(Request(scope, receive, send), limit=1024)
    await Response(body)(scope, receive, send)


class Line:
    """A connection to a server in the same event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, data: bytes) -> None:
        self._writer.write(data)

    async def hears(self) -> bytes:
        """Return all that came until the other side hung up."""
        return await self._reader.read()

    async def hears_a_head(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    def close(self) -> None:
        self._writer.close()


class Place:
    """A server that answers, whose patience is the test's."""

    def __init__(self, patience: Patience, path: Path) -> None:
        self.patience = patience
        self._path = path
        self._lines: list[Line] = []

    async def line(self, said: bytes = b"") -> Line:
        line = Line(*await asyncio.open_unix_connection(self._path))
        self._lines.append(line)
        line.say(said)
        return line

    async def ping(self) -> bytes:
        """Make a whole request on a connection of its own; all before it has been read then."""
        return await (await self.line(head(b"GET / HTTP/1.1", b"Connection: close"))).hears()

    def close(self) -> None:
        for line in self._lines:
            line.close()


@asynccontextmanager
async def place(path: Path, *, most: int = 100) -> AsyncIterator[Place]:
    patience = Patience(most=most, longest=LOOKS)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = HttpServer(echo, listener, patience=patience)
        await server.start()
        found = Place(patience, path)
        yield found
        found.close()
        await server.stop()


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Paths of sockets are short: a test's own folder may be too deep.
    return tmp_path_factory.mktemp("s") / "p"


UNFINISHED = {
    "head": b"GET / HTTP/1.1\r\nHos",
    "body": head(b"POST / HTTP/1.1", b"Content-Length: 10") + b"half",
    "chunks": head(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked") + b"5\r\nhel",
}


@pytest.mark.parametrize("said", UNFINISHED.values(), ids=UNFINISHED)
async def test_request_that_is_not_finished_in_time_is_refused(path: Path, said: bytes) -> None:
    async with place(path) as there:
        line = await there.line(said)
        await there.ping()

        for _ in range(LOOKS):
            there.patience.look()

        heard = await line.hears()
    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b"urn:poussetaches:problem:too-slow" in heard


@pytest.mark.parametrize("first", [1, 1_000, 40_000, 63_000, 66_000])
async def test_head_over_its_limit_is_refused_in_whatever_pieces_it_comes(
    path: Path, first: int
) -> None:
    content = head(b"GET / HTTP/1.1", *(b"X-%d: a" % number for number in range(9_000)))
    async with place(path) as there:
        line = await there.line(content[:first])
        await there.ping()
        line.say(content[first:])

        heard = await line.hears()
    assert heard.startswith(b"HTTP/1.1 431 ")


async def test_connection_that_brings_nothing_is_closed_in_time(path: Path) -> None:
    async with place(path) as there:
        line = await there.line()
        await there.ping()

        for _ in range(LOOKS):
            there.patience.look()

        assert await line.hears() == b""


async def test_byte_now_and_then_buys_no_time(path: Path) -> None:
    async with place(path) as there:
        line = await there.line(head(b"POST / HTTP/1.1", b"Content-Length: 100"))
        for _ in range(LOOKS):
            line.say(b"x")
            await there.ping()
            there.patience.look()

        assert (await line.hears()).startswith(b"HTTP/1.1 408 ")


async def test_connection_in_use_is_kept(path: Path) -> None:
    async with place(path) as there:
        line = await there.line()
        for _ in range(LOOKS * 3):
            line.say(GET)
            assert (await line.hears_a_head()).startswith(b"HTTP/1.1 200 ")
            there.patience.look()


async def test_newcomer_is_answered_when_the_others_say_nothing(path: Path) -> None:
    async with place(path, most=10) as there:
        lines = [await there.line() for _ in range(50)]

        assert (await there.ping()).startswith(b"HTTP/1.1 200 ")
        assert await lines[0].hears() == b""


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Let this process open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idle_connections_leave_the_server_as_it_was(server: Server) -> None:
    with ExitStack() as stack:
        stack.enter_context(many_files(IDLE + 200))
        before = server.memory()

        idle = [stack.enter_context(connect(server)) for _ in range(IDLE)]
        for connection in idle[::3]:
            connection.sendall(push(b"Content-Length: 99", body=b"half"))

        assert server.request("POST", "/v1/tasks", b'{"url": "http://app.test/"}').status == 201
        assert server.memory() - before < 128 << 20
        assert IDLE <= MOST_CONNECTIONS or is_closed(idle[1])
