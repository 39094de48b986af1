"""Names whose DNS servers never answer delay only their own tasks."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import pytest

from poussetaches.core.queue import QueueSettings
from poussetaches.core.target_allowlist import AllowedTargets
from poussetaches.engine.clock import SystemClock
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.limited_sender import LimitedSender
from poussetaches.engine.resolver import Resolver
from poussetaches.engine.sender import HttpSender, Sender
from poussetaches.store.sqlite import SqliteStore
from tests.factories import make_task, seeded
from tests.hostile.receivers import answers, misbehaving
from tests.store.driving import known

PATIENT = 240.0  # seconds; only a failing test waits this long
CONNECT_TIMEOUT = 1.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
HEALTHY = "localhost"  # the HTTP client resolves it, too

MakeSender = Callable[[Resolver], Sender]


class Dns:
    """Resolves one name; lookups of all others hang."""

    def __init__(self) -> None:
        self._is_over = threading.Event()

    def look_up(self, host: str) -> Sequence[str]:
        """Return an address; for other names, wait until the end of the test."""
        if host == HEALTHY:
            return ["127.0.0.1"]
        self._is_over.wait(PATIENT)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    def close(self) -> None:
        """End all lookups."""
        self._is_over.set()


@pytest.fixture
def dns() -> Iterator[Dns]:
    dns = Dns()
    yield dns
    dns.close()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def free_sender(resolver: Resolver) -> HttpSender:
    clock = SystemClock()
    return HttpSender(connect_timeout=CONNECT_TIMEOUT, now=clock.now, resolver=resolver)


def limited_sender(resolver: Resolver) -> Sender:
    sender = free_sender(resolver)
    return LimitedSender(
        sender,
        allowed=AllowedTargets(["127.0.0.0/8"]),
        http_sender=sender,
        resolver=resolver,
        connect_timeout=CONNECT_TIMEOUT,
    )


@pytest.mark.parametrize("count", [6, 300])
@pytest.mark.parametrize("make_sender", [free_sender, limited_sender])
async def test_healthy_name_is_delivered_to_while_silent_ones_are_looked_up(
    stack: AsyncExitStack, store: SqliteStore, dns: Dns, make_sender: MakeSender, count: int
) -> None:
    engine = Engine(
        store=store,
        sender=make_sender(Resolver(lookup=dns.look_up)),
        clock=SystemClock(),
        random=seeded(),
        config=EngineConfig(queue=QueueSettings(concurrency=10_000)),
    )
    await engine.load()
    engine.start()
    stack.push_async_callback(engine.stop, 0)
    arrived = asyncio.Event()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await answers(ANSWER)(reader, writer)

    address = await stack.enter_async_context(misbehaving(arrive))
    port = address.rpartition(":")[2]

    for number in range(count):
        url = f"http://silent{number}.example:{port}/"
        await store.add(make_task(f"silent-{number}", url=url, queue="silent"))
    await store.add(make_task("healthy", url=f"http://{HEALTHY}:{port}/", queue="healthy"))
    async with asyncio.timeout(PATIENT / 2):
        await arrived.wait()
    await engine.stop(0)

    tasks = [await known(store, f"silent-{number}") for number in range(count)]
    assert {task.attempt_count for task in tasks} == {0}
