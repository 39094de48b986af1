"""Attempts to allowed targets only, over real sockets; the test resolves all names."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from poussetaches.core.cause import Cause
from poussetaches.core.target_allowlist import AllowedTargets
from poussetaches.core.task import Outcome
from poussetaches.engine.limited_sender import LimitedSender
from poussetaches.engine.request import Request
from poussetaches.engine.resolver import FRESH, Resolver
from poussetaches.engine.sender import HttpSender
from tests.factories import NOW

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
LOOPBACK = "127.0.0.0/8"


class Names:
    """Resolves names to configured addresses; the last answer is repeated."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): deque(given) for name, given in answers.items()}
        self._now = 0.0
        self.asked: list[str] = []
        self.resolver = Resolver(lookup=self._look_up, monotonic=lambda: self._now)

    def pass_time(self) -> None:
        """Advance the clock until cached answers have expired."""
        self._now += FRESH

    def _look_up(self, host: str) -> list[str]:
        """Return the next addresses."""
        self.asked.append(host)
        answers = self._answers.get(host.rstrip("."))
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return list(answers.popleft() if len(answers) > 1 else answers[0])


class Receivers:
    """Listens on one port of several loopback addresses, and records the requests."""

    def __init__(self) -> None:
        self.port = 0
        self.calls: list[tuple[str, bytes]] = []
        self._servers: list[asyncio.Server] = []

    @property
    def called(self) -> list[str]:
        """The addresses that were called."""
        return [address for address, _ in self.calls]

    async def listen(self, *addresses: str) -> None:
        """Listen there."""
        for address in addresses:
            server = await asyncio.start_server(self._answerer(address), address, self.port)
            self.port = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    async def close(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.close()
            await server.wait_closed()

    def _answerer(
        self, address: str
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                head = b""  # a probe
            self.calls.append((address, head))
            writer.write(ANSWER if head else b"")
            writer.close()

        return answer


@pytest.fixture
async def receivers() -> AsyncIterator[Receivers]:
    receivers = Receivers()
    yield receivers
    await receivers.close()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def sender_of(stack: AsyncExitStack, rules: Sequence[str], names: Names) -> LimitedSender:
    """Return a sender that is closed with the stack."""
    http_sender = HttpSender(connect_timeout=5, now=lambda: NOW, resolver=names.resolver)
    sender = LimitedSender(
        http_sender,
        allowed=AllowedTargets(rules),
        http_sender=http_sender,
        resolver=names.resolver,
        connect_timeout=5,
    )
    stack.push_async_callback(sender.close)
    return sender


def request_to(url: str, *, timeout: float = 20) -> Request:
    return Request(method="POST", url=url, headers={}, body=b"", timeout=timeout)


async def test_connection_goes_to_the_address_that_was_checked(
    receivers: Receivers, stack: AsyncExitStack
) -> None:
    """DNS rebinding: the name leads elsewhere once it was checked."""
    await receivers.listen("127.0.0.2", "127.0.0.3")
    names = Names(app_example=[["127.0.0.2"], ["127.0.0.3"]])
    sender = sender_of(stack, ["127.0.0.2"], names)

    outcome = await sender.send(request_to(f"http://app.example:{receivers.port}/"))

    assert outcome == Outcome(status=200)
    assert receivers.called == ["127.0.0.2"]
    assert names.asked == ["app.example"]


async def test_name_that_leads_elsewhere_later_is_refused_then(
    receivers: Receivers, stack: AsyncExitStack
) -> None:
    await receivers.listen("127.0.0.2", "127.0.0.3")
    names = Names(app_example=[["127.0.0.2"], ["127.0.0.3"]])
    sender = sender_of(stack, ["127.0.0.2"], names)
    url = f"http://app.example:{receivers.port}/"
    await sender.send(request_to(url))
    names.pass_time()

    outcome = await sender.send(request_to(url))

    assert outcome == Outcome(
        error=f"app.example:{receivers.port} resolves to 127.0.0.3, which is not an allowed "
        "target; see the setting allow_target",
        cause=Cause.TARGET_NOT_ALLOWED,
    )
    assert receivers.called == ["127.0.0.2"]


async def test_one_address_that_is_not_allowed_is_enough(
    receivers: Receivers, stack: AsyncExitStack
) -> None:
    await receivers.listen("127.0.0.2", "127.0.0.3")
    names = Names(app_example=[["127.0.0.2", "127.0.0.3"]])
    sender = sender_of(stack, ["127.0.0.2"], names)

    outcome = await sender.send(request_to(f"http://app.example:{receivers.port}/"))

    assert outcome.error is not None
    assert "resolves to 127.0.0.3" in outcome.error
    assert not outcome.unreachable
    assert receivers.called == []


@pytest.mark.parametrize(
    "host", ["app.example", "APP.Example", "app.example.", "user:pw@app.example"]
)
async def test_name_reaches_its_receiver_however_it_is_written(
    receivers: Receivers, stack: AsyncExitStack, host: str
) -> None:
    await receivers.listen("127.0.0.2")
    sender = sender_of(stack, [LOOPBACK], Names(app_example=[["127.0.0.2"]]))

    outcome = await sender.send(request_to(f"http://{host}:{receivers.port}/"))

    assert outcome == Outcome(status=200)
    assert b"host: app.example" in receivers.calls[0][1].lower()


async def test_next_address_is_tried_when_one_refuses(
    receivers: Receivers, stack: AsyncExitStack
) -> None:
    await receivers.listen("127.0.0.3")
    sender = sender_of(stack, [LOOPBACK], Names(app_example=[["127.0.0.2", "127.0.0.3"]]))
    origin = f"http://app.example:{receivers.port}"

    assert await sender.send(request_to(origin)) == Outcome(status=200)
    assert await sender.probe(origin) is None


async def test_name_whose_addresses_all_refuse_is_unreachable(
    receivers: Receivers, stack: AsyncExitStack
) -> None:
    await receivers.listen("127.0.0.4")
    sender = sender_of(stack, [LOOPBACK], Names(app_example=[["127.0.0.2", "127.0.0.3"]]))
    origin = f"http://app.example:{receivers.port}"

    outcome = await sender.send(request_to(origin))

    assert outcome.unreachable
    assert outcome.error is not None
    assert outcome.error.startswith("cannot connect")
    probe = await sender.probe(origin)
    assert probe is not None
    assert probe.unreachable


async def test_address_that_is_not_allowed_is_not_connected_to(
    receivers: Receivers, stack: AsyncExitStack
) -> None:
    await receivers.listen("127.0.0.3")
    sender = sender_of(stack, ["127.0.0.2"], Names())
    origin = f"http://127.0.0.3:{receivers.port}"
    refusal = f"127.0.0.3:{receivers.port} is not an allowed target; see the setting allow_target"

    assert await sender.send(request_to(origin)) == Outcome(
        error=refusal, cause=Cause.TARGET_NOT_ALLOWED
    )
    assert await sender.probe(origin) == Outcome(error=refusal, cause=Cause.TARGET_NOT_ALLOWED)
    assert receivers.called == []


async def test_probe_obeys_what_a_name_is_resolved_to(
    receivers: Receivers, stack: AsyncExitStack
) -> None:
    await receivers.listen("127.0.0.2", "127.0.0.3")
    names = Names(app_example=[["127.0.0.2"], ["127.0.0.3"]])
    sender = sender_of(stack, ["127.0.0.2"], names)
    origin = f"http://app.example:{receivers.port}"

    assert await sender.probe(origin) is None
    names.pass_time()
    refusal = await sender.probe(origin)

    assert refusal is not None
    assert "resolves to 127.0.0.3" in (refusal.error or "")
    assert "127.0.0.3" not in receivers.called


async def test_host_that_is_named_may_have_any_address(
    receivers: Receivers, stack: AsyncExitStack
) -> None:
    await receivers.listen("127.0.0.1")
    names = Names(localhost=[["127.0.0.1"]])
    sender = sender_of(stack, ["localhost", "10.0.0.0/8"], names)
    origin = f"http://localhost:{receivers.port}"

    assert await sender.send(request_to(origin)) == Outcome(status=200)
    assert await sender.probe(origin) is None


async def test_name_without_addresses_is_unknown(stack: AsyncExitStack) -> None:
    sender = sender_of(stack, [LOOPBACK], Names())
    error = "the name gone.example cannot be resolved: Name or service not known"

    outcome = await sender.send(request_to("http://gone.example/"))

    assert outcome == Outcome(error=error, cause=Cause.UNKNOWN_HOST)
    assert await sender.probe("http://gone.example:80") == outcome


async def test_address_that_does_not_answer_is_looked_up_again(
    receivers: Receivers, stack: AsyncExitStack
) -> None:
    await receivers.listen("127.0.0.3")
    names = Names(app_example=[["127.0.0.2"], ["127.0.0.3"]])
    sender = sender_of(stack, [LOOPBACK], names)
    url = f"http://app.example:{receivers.port}/"
    assert (await sender.send(request_to(url))).unreachable

    assert await sender.send(request_to(url)) == Outcome(status=200)


async def test_pinned_tls_connection_still_asks_for_the_name(stack: AsyncExitStack) -> None:
    """The certificate is checked for the name, too: the client knows of no other."""
    hello: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.set_result(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.2", 0)
    stack.push_async_callback(server.wait_closed)
    stack.callback(server.close)
    port = server.sockets[0].getsockname()[1]
    sender = sender_of(stack, [LOOPBACK], Names(app_example=[["127.0.0.2"]]))

    outcome = await sender.send(request_to(f"https://app.example:{port}/"))

    assert b"app.example" in await hello
    assert outcome.error is not None
    assert not outcome.unreachable
