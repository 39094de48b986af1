"""Connections are reused, and one that is closed just when it is used costs no attempt."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from poussetaches.core.cause import Cause
from poussetaches.core.task import Outcome
from poussetaches.engine.request import Request
from poussetaches.engine.sender import HttpSender
from tests.factories import NOW
from tests.hostile.receivers import misbehaving

PATIENCE = 20.0  # seconds; only a failing test waits so long
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
DONE = Outcome(status=200)


class Peer:
    """The application's end of a connection."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number  # of the connection, from 1
        self._reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Return the head of the next request; empty if the connection is closed."""
        try:
            return await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def answer(self, data: bytes = OK) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def hang_up(self, *, reset: bool = False) -> None:
        if reset:
            linger = struct.pack("ii", 1, 0)
            sock: socket.socket = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.close()


class Application:
    """Counts its connections."""

    def __init__(self) -> None:
        self.address = ""
        self.count = 0


@asynccontextmanager
async def serving(handler: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[Application]:
    """Serve on a free port; the handler talks to each peer."""
    application = Application()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        application.count += 1
        await handler(Peer(application.count, reader, writer))

    async with misbehaving(handle) as application.address:
        yield application


class Repeats:
    """Counts requests that were sent again."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        self.count += 1


@pytest.fixture
def repeats() -> Repeats:
    return Repeats()


@pytest.fixture
async def sender(repeats: Repeats) -> AsyncIterator[HttpSender]:
    sender = HttpSender(connect_timeout=5.0, now=lambda: NOW, on_repeat=repeats.add)
    yield sender
    await sender.close()


async def send(sender: HttpSender, application: Application, *, body: bytes = b"") -> Outcome:
    return await send_to(sender, application.address, body=body)


async def send_to(sender: HttpSender, address: str, *, body: bytes = b"") -> Outcome:
    url = f"http://{address}/"
    headers = {"Poussetaches-Request-ID": "one"}
    async with asyncio.timeout(PATIENCE):
        return await sender.send(
            Request(method="POST", url=url, headers=headers, body=body, timeout=PATIENCE)
        )


async def answer_all(peer: Peer) -> None:
    while await peer.request():
        await peer.answer()
    peer.hang_up()


async def test_connection_serves_one_request_after_the_other(
    sender: HttpSender, repeats: Repeats
) -> None:
    async with serving(answer_all) as application:
        assert [await send(sender, application) for _ in range(5)] == [DONE] * 5

    assert (application.count, repeats.count) == (1, 0)


async def test_requests_at_the_same_time_have_connections_of_their_own(
    sender: HttpSender,
) -> None:
    async with serving(answer_all) as application:
        await asyncio.gather(*(send(sender, application) for _ in range(3)))
        await asyncio.gather(*(send(sender, application) for _ in range(3)))

    assert application.count == 3


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_request_on_a_connection_that_closes_is_sent_again_once(
    sender: HttpSender, repeats: Repeats, reset: bool
) -> None:
    heads: list[bytes] = []

    async def handle(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.answer()
        if peer.number == 1:
            heads.append(await peer.request())
            peer.hang_up(reset=reset)

    async with serving(handle) as application:
        assert await send(sender, application) == DONE
        assert await send(sender, application) == DONE

    assert (application.count, repeats.count) == (2, 1)
    assert heads[1] == heads[2]
    assert b"Poussetaches-Request-ID: one" in heads[1]


async def test_request_is_not_sent_a_third_time(sender: HttpSender, repeats: Repeats) -> None:
    requests = 0

    async def handle(peer: Peer) -> None:
        nonlocal requests
        while await peer.request():
            requests += 1
            if requests > 1:
                peer.hang_up()
                return
            await peer.answer()

    async with serving(handle) as application:
        assert await send(sender, application) == DONE
        outcome = await send(sender, application)

    error = "the connection was closed without an answer"
    assert outcome == Outcome(error=error, cause=Cause.CONNECTION_LOST)
    assert (requests, repeats.count) == (3, 1)


async def test_request_on_a_new_connection_is_not_sent_again(
    sender: HttpSender, repeats: Repeats
) -> None:
    requests = 0

    async def handle(peer: Peer) -> None:
        nonlocal requests
        requests += bool(await peer.request())
        peer.hang_up()

    async with serving(handle) as application:
        outcome = await send(sender, application)

    assert outcome.cause is Cause.CONNECTION_LOST
    assert (requests, repeats.count) == (1, 0)


async def test_answer_that_has_begun_is_not_asked_for_again(
    sender: HttpSender, repeats: Repeats
) -> None:
    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        await peer.request()
        await peer.answer(b"H")
        peer.hang_up()

    async with serving(handle) as application:
        assert await send(sender, application) == DONE
        outcome = await send(sender, application)

    assert outcome.cause is Cause.CONNECTION_LOST
    assert (application.count, repeats.count) == (1, 0)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"x",
        OK + OK,
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["more bytes", "a second answer", "close", "HTTP/1.0"],
)
async def test_connection_is_not_reused_after_an_answer_that_forbids_it(
    sender: HttpSender, repeats: Repeats, answer: bytes
) -> None:
    async def handle(peer: Peer) -> None:
        while await peer.request():
            await peer.answer(answer)
        peer.hang_up()

    async with serving(handle) as application:
        assert [await send(sender, application) for _ in range(2)] == [DONE] * 2

    assert (application.count, repeats.count) == (2, 0)


@pytest.mark.parametrize("last", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"], ids=["", "408"])
async def test_idle_connection_that_the_application_ends_is_not_used(
    sender: HttpSender, repeats: Repeats, last: bytes
) -> None:
    ended = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        if peer.number == 1:
            await peer.answer(last)
            peer.writer.write_eof()
            await peer.request()  # until the sender has closed its end
            ended.set()

    async with serving(handle) as application:
        await send(sender, application)
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        assert await send(sender, application) == DONE

    assert (application.count, repeats.count) == (2, 0)


async def test_idle_connection_is_closed_after_a_while(sender: HttpSender) -> None:
    closed = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await answer_all(peer)
        closed.set()

    async with serving(handle) as application:
        await send(sender, application)
        async with asyncio.timeout(PATIENCE):
            await closed.wait()


async def test_no_more_idle_connections_are_kept_than_allowed() -> None:
    sender = HttpSender(connect_timeout=5.0, now=lambda: NOW, most_idle=2)
    async with serving(answer_all) as application:
        await asyncio.gather(*(send(sender, application) for _ in range(5)))
        await asyncio.gather(*(send(sender, application) for _ in range(5)))
    await sender.close()

    assert application.count == 8


async def test_connection_whose_request_was_not_read_is_not_reused(sender: HttpSender) -> None:
    async def handle(peer: Peer) -> None:
        if peer.number > 1:
            await peer.request()
        await peer.answer()
        await peer.request()
        peer.hang_up()

    async with serving(handle) as application:
        await send(sender, application, body=bytes(64 << 20))
        assert await send(sender, application) == DONE

    assert application.count == 2


async def test_application_that_stops_before_its_answer_was_restarted(sender: HttpSender) -> None:
    async def stop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        server.close()
        writer.close()

    server = await asyncio.start_server(stop, "127.0.0.1", 0)
    outcome = await send_to(sender, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert outcome.cause is Cause.RESTARTED
    assert outcome.unreachable
    assert "accepts no connections now" in (outcome.error or "")


async def test_cancelled_attempt_closes_its_connection(sender: HttpSender) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.request()
        closed.set()

    async with serving(handle) as application:
        attempt = asyncio.create_task(send(sender, application))
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
            attempt.cancel()
            await closed.wait()
