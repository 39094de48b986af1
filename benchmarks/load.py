"""The load: requests over persistent connections, one at a time on each."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import cast

CONNECTIONS = 64
PATIENCE = 60.0  # seconds
PACE = 0.001  # seconds between two checks for due requests

_HEAD = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def request_of(body: bytes, path: str = "/v1/tasks") -> bytes:
    """Return a complete request, whose bytes can be sent repeatedly."""
    head = _HEAD % path.encode()
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Load:
    """Sends requests over its connections, and counts the answers."""

    def __init__(self) -> None:
        self.idle: list[Connection] = []
        self.answered = 0
        self.refused = 0
        self.first_refusal = b""
        self.on_answer: Callable[[], None] = lambda: None
        self._queued: deque[bytes] = deque()
        self._under_way = 0
        self._quiet = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int, connections: int = CONNECTIONS) -> AsyncIterator[Load]:
        """Connect; disconnect at the end."""
        load = cls()
        loop = asyncio.get_running_loop()
        made = []
        for _ in range(connections):
            _, connection = await loop.create_connection(
                lambda: Connection(load), "127.0.0.1", port
            )
            made.append(connection)
            load.idle.append(connection)
        try:
            yield load
        finally:
            for connection in made:
                connection.transport.close()

    def send(self, request: bytes) -> None:
        """Send a request, as soon as a connection is free."""
        self._under_way += 1
        if self.idle:
            self.idle.pop().transport.write(request)
        else:
            self._queued.append(request)

    def received(self, connection: Connection, answer: bytes) -> None:
        """Count an answer, and reuse its connection."""
        self.answered += 1
        self._under_way -= 1
        if answer[9:10] != b"2":
            self.refused += 1
            self.first_refusal = self.first_refusal or answer
        if self._queued:
            connection.transport.write(self._queued.popleft())
        else:
            self.idle.append(connection)
        self.on_answer()
        if self._under_way == 0:
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait until every request has its answer.

        Raises:
            RuntimeError: one was refused.
            TimeoutError: one has none.
        """
        if self._under_way:
            self._quiet.clear()
            async with asyncio.timeout(PATIENCE):
                await self._quiet.wait()
        if self.refused:
            raise RuntimeError(f"{self.refused} requests refused, first {self.first_refusal!r}")


class Connection(asyncio.Protocol):
    """One connection, with at most one request in flight."""

    transport: asyncio.Transport

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(
            asyncio.Transport, transport
        )  # uvloop's transport has another base class

    def data_received(self, data: bytes) -> None:
        answer = self._received + data if self._received else data
        if is_whole(answer):
            self._received = b""
            self._load.received(self, answer)
        else:
            self._received = answer


def is_whole(message: bytes) -> bool:
    """Return whether a message with a known length is complete."""
    end = message.find(b"\r\n\r\n")
    if end < 0:
        return False
    return len(message) >= end + 4 + length_of(message[:end])


def length_of(head: bytes) -> int:
    """Return how many bytes follow the head of a message."""
    head = head.lower()
    at = head.find(b"content-length:")
    return 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])


def always() -> bool:
    """Return True: there is always room for another request."""
    return True


def feeder(
    load: Load, requests: Iterator[bytes], room: Callable[[], bool] = always
) -> Callable[[], None]:
    """Return a function that sends requests while there are idle connections and room."""

    def feed() -> None:
        while load.idle and room():
            request = next(requests, None)
            if request is None:
                return
            load.send(request)

    return feed


async def send_all(load: Load, requests: Iterator[bytes]) -> float:
    """Send requests as fast as they are answered; return how many seconds it took."""
    load.on_answer = feed = feeder(load, requests)
    started = time.perf_counter()
    feed()
    await load.quiet()
    return time.perf_counter() - started


async def send_paced(load: Load, requests: Iterator[bytes], rate: float) -> float:
    """Send requests at a rate, answered or not; return the planned time of the first.

    Request number n is planned n / rate seconds later, even if it was sent later.
    """
    started = time.perf_counter()
    sent = 0
    while True:
        due = int((time.perf_counter() - started) * rate) + 1
        while sent < due:
            request = next(requests, None)
            if request is None:
                await load.quiet()
                return started
            load.send(request)
            sent += 1
        await asyncio.sleep(PACE)
