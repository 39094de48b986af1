"""Idle, slow and stalled connections take no capacity from other clients."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeGuard

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from poussetaches.api.request_body import read_body
from poussetaches.server.connection_limits import LINGER, MOST_UNREAD, Patience
from poussetaches.server.descriptors import MOST_CONNECTIONS
from poussetaches.server.http_protocol import HttpProtocol
from poussetaches.server.http_server import HttpServer
from poussetaches.server.listener import listening
from poussetaches.settings.table import Listener, Security
from tests.acceptance.harness import Server, serving
from tests.effort import LONG
from tests.hostile.wire import connect, head, is_closed, push

GET = head(b"GET / HTTP/1.1")
ASKS_AT_LENGTH = head(b"GET /long HTTP/1.1")
IDLE = 5_000 if LONG else 800
CHECKS = 2
LONG_ANSWER = 1 << 20  # bytes; more than the system buffers for a client that does not read


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request body, or with a long response."""
    body = await read_body(Request(scope, receive, send), limit=1024)
    if scope["path"] == "/long":
        body = b"a" * LONG_ANSWER
    await Response(body)(scope, receive, send)


class Line:
    """A connection to a server in the same event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def read_to_end(self) -> bytes:
        """Return all bytes until the other side disconnects."""
        return await self._reader.read()

    async def read_head(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    def close(self) -> None:
        self._writer.close()


class LimitedServer:
    """A server whose limits for slow clients a test sets."""

    def __init__(self, patience: Patience, listener: socket.socket, server: HttpServer) -> None:
        self.patience = patience
        self._listener = listener
        self._server = server
        self._lines: list[Line] = []
        self._stalled: list[socket.socket] = []

    @property
    def connections(self) -> list[HttpProtocol]:
        """Connections whose descriptors are still in use."""
        return [one for one in self._server.registry.connections if is_ours(one)]

    @property
    def unread(self) -> int:
        """Bytes of responses that clients have not read yet."""
        return sum(connection.unread for connection in self.connections)

    async def line(self, data: bytes = b"") -> Line:
        client = await self.stalled_line()
        line = Line(*await asyncio.open_connection(sock=client))
        self._lines.append(line)
        line.send(data)
        return line

    async def stalled_line(self, data: bytes = b"") -> socket.socket:
        """Connect without reading anything."""
        client = socket.socket(self._listener.family)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, self._listener.getsockname())
        await loop.sock_sendall(client, data)
        self._stalled.append(client)
        return client

    async def ping(self) -> bytes:
        """Send a request on a new connection; the server has then read all earlier bytes."""
        return await (await self.line(head(b"GET / HTTP/1.1", b"Connection: close"))).read_to_end()

    async def check(self, times: int = CHECKS) -> None:
        """Advance the clock, and check the connections."""
        for _ in range(times):
            self.patience.check()
            await asyncio.sleep(0)

    def close(self) -> None:
        for line in self._lines:
            line.close()
        for client in self._stalled:
            client.close()


def is_ours(connection: object) -> TypeGuard[HttpProtocol]:
    return isinstance(connection, HttpProtocol)


@asynccontextmanager
async def limited_server(
    path: Path | None, *, most: int = 100, most_unread: int = MOST_UNREAD
) -> AsyncIterator[LimitedServer]:
    """Serve at a Unix socket, or without a path at a port."""
    patience = Patience(
        most=most,
        longest=CHECKS,
        longest_idle=CHECKS,
        longest_unread=CHECKS,
        most_unread=most_unread,
    )
    with listening(Listener(port=0, uds=path), Security()) as listener:
        server = HttpServer(echo, listener, patience=patience)
        await server.start()
        found = LimitedServer(patience, listener, server)
        yield found
        found.close()
        await server.stop()


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Paths of sockets are limited to 107 bytes: a test's own folder may be too deep.
    return tmp_path_factory.mktemp("s") / "p"


UNFINISHED = {
    "head": b"GET / HTTP/1.1\r\nHos",
    "body": head(b"POST / HTTP/1.1", b"Content-Length: 10") + b"half",
    "chunks": head(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked") + b"5\r\nhel",
}


@pytest.mark.parametrize("data", UNFINISHED.values(), ids=UNFINISHED)
async def test_request_that_is_not_finished_in_time_is_refused(path: Path, data: bytes) -> None:
    async with limited_server(path) as there:
        line = await there.line(data)
        await there.ping()

        for _ in range(CHECKS):
            there.patience.check()

        heard = await line.read_to_end()
    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b"urn:poussetaches:problem:too-slow" in heard


@pytest.mark.parametrize("first", [1, 1_000, 40_000, 63_000, 66_000])
async def test_head_over_its_limit_is_refused_however_it_is_split(path: Path, first: int) -> None:
    content = head(b"GET / HTTP/1.1", *(b"X-%d: a" % number for number in range(9_000)))
    async with limited_server(path) as there:
        line = await there.line(content[:first])
        await there.ping()
        line.send(content[first:])

        heard = await line.read_to_end()
    assert heard.startswith(b"HTTP/1.1 431 ")


async def test_connection_without_a_request_is_closed_in_time(path: Path) -> None:
    async with limited_server(path) as there:
        line = await there.line()
        await there.ping()

        for _ in range(CHECKS):
            there.patience.check()

        assert await line.read_to_end() == b""


async def test_slow_bytes_do_not_extend_the_timeout(path: Path) -> None:
    async with limited_server(path) as there:
        line = await there.line(head(b"POST / HTTP/1.1", b"Content-Length: 100"))
        for _ in range(CHECKS):
            line.send(b"x")
            await there.ping()
            there.patience.check()

        assert (await line.read_to_end()).startswith(b"HTTP/1.1 408 ")


async def test_connection_in_use_is_kept(path: Path) -> None:
    async with limited_server(path) as there:
        line = await there.line()
        for _ in range(CHECKS * 3):
            line.send(GET)
            assert (await line.read_head()).startswith(b"HTTP/1.1 200 ")
            there.patience.check()


async def test_new_client_is_answered_while_others_are_idle(path: Path) -> None:
    async with limited_server(path, most=10) as there:
        lines = [await there.line() for _ in range(50)]

        assert (await there.ping()).startswith(b"HTTP/1.1 200 ")
        assert await lines[0].read_to_end() == b""


@pytest.fixture(params=["unix", "tcp"])
def listener_path(request: pytest.FixtureRequest, path: Path) -> Path | None:
    return path if request.param == "unix" else None


@pytest.mark.parametrize("data", UNFINISHED.values(), ids=UNFINISHED)
async def test_descriptor_of_a_refused_client_is_freed_even_if_it_does_nothing(
    listener_path: Path | None, data: bytes
) -> None:
    async with limited_server(listener_path) as there:
        await there.stalled_line(data)
        await there.ping()

        await there.check(CHECKS)
        refused = len(there.connections)
        await there.check(LINGER)

        assert (refused, there.connections) == (1, [])


async def test_connections_never_exceed_their_limit(
    listener_path: Path | None,
) -> None:
    counts = []
    async with limited_server(listener_path, most=10) as there:
        for _ in range(50):
            await there.stalled_line(UNFINISHED["head"])
            assert (await there.ping()).startswith(b"HTTP/1.1 200 ")
            counts.append(len(there.connections))

    assert max(counts) <= 10


async def test_client_that_does_not_read_is_disconnected(listener_path: Path | None) -> None:
    async with limited_server(listener_path) as there:
        await there.stalled_line(ASKS_AT_LENGTH)
        await there.ping()

        assert there.unread > 0
        await there.check(CHECKS + 1)

        assert there.connections == []


async def test_client_that_reads_slowly_is_waited_for(listener_path: Path | None) -> None:
    async with limited_server(listener_path) as there:
        client = await there.stalled_line(ASKS_AT_LENGTH)
        await there.ping()
        heard = 0

        while there.unread:
            for _ in range(50):
                heard += len(await asyncio.get_running_loop().sock_recv(client, 4096))
            await there.check(1)

        assert heard > CHECKS * 50 * 4096
        assert len(there.connections) == 1


async def test_unread_answers_take_bounded_memory(listener_path: Path | None) -> None:
    most = 3 * LONG_ANSWER
    async with limited_server(listener_path, most_unread=most) as there:
        unread = []
        for _ in range(20):
            await there.stalled_line(ASKS_AT_LENGTH)
            await there.ping()
            unread.append(there.unread)

        assert LONG_ANSWER < max(unread) <= most
        assert (await (await there.line(ASKS_AT_LENGTH)).read_head()).startswith(b"HTTP/1.1 200 ")


async def test_stalled_clients_are_replaced(listener_path: Path | None) -> None:
    async with limited_server(listener_path, most=10) as there:
        for _ in range(50):
            await there.stalled_line(ASKS_AT_LENGTH)

        assert (await there.ping()).startswith(b"HTTP/1.1 200 ")
        assert len(there.connections) <= 10


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Raise this process's limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


STRANGERS = {
    "unfinished heads": UNFINISHED["head"],
    "long answers that are not read": head(b"GET /openapi.json HTTP/1.1") * 64,
    "events": head(b"GET /v1/events HTTP/1.1"),
    "waits": head(b"GET /v1/tasks/%b?wait=60 HTTP/1.1"),
}


@pytest.mark.parametrize("data", STRANGERS.values(), ids=STRANGERS)
def test_idle_clients_leave_descriptors_for_the_rest_of_the_server(
    tmp_path: Path, data: bytes
) -> None:
    with (
        serving(tmp_path / "data", "--start-paused", max_files=640) as server,
        ExitStack() as stack,
    ):
        stack.enter_context(many_files(1_000))
        task_id = server.push("http://127.0.0.1:9/").encode()
        for _ in range(600):
            stack.enter_context(connect(server)).sendall(data.replace(b"%b", task_id))

        statuses = [server.request("GET", "/healthz").status for _ in range(20)]
        server.push("http://127.0.0.1:9/")

        assert statuses == [200] * 20
        assert server.file_count() < 320


def test_idle_connections_do_not_affect_the_server(server: Server) -> None:
    with ExitStack() as stack:
        stack.enter_context(many_files(IDLE + 200))
        before = server.memory()

        idle = [stack.enter_context(connect(server)) for _ in range(IDLE)]
        for connection in idle[::3]:
            connection.sendall(push(b"Content-Length: 99", body=b"half"))

        assert server.request("POST", "/v1/tasks", b'{"url": "http://app.test/"}').status == 201
        assert server.memory() - before < 128 << 20
        assert IDLE <= MOST_CONNECTIONS or is_closed(idle[1])
