"""The target of the tasks. It answers 200 at once by default."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import uvloop

from benchmarks.load import length_of

PATIENCE = 60.0  # seconds
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Target:
    """Counts requests, and records the time of the last one."""

    def __init__(self, *, hangs: bool = False, delay: float = 0.0) -> None:
        self.port = 0
        self.hangs = hangs
        self.delay = delay
        self.count = 0
        self.last_at = 0.0
        self.arrivals: dict[int, float] | None = None  # by the number in the path, if enabled
        self.on_request: Callable[[], None] = lambda: None
        self._wanted = 0
        self._reached = asyncio.Event()

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[Target]:
        """Listen on the loopback address."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Receiving(self), "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @property
    def url(self) -> str:
        """The target's URL."""
        return f"http://127.0.0.1:{self.port}/tasks/work"

    def received(self, head: bytes) -> None:
        """Count a request."""
        self.count += 1
        self.last_at = time.perf_counter()
        if self.arrivals is not None:
            path = head.split(b" ", 2)[1]
            self.arrivals[int(path.rpartition(b"/")[2])] = self.last_at
        if self.count >= self._wanted:
            self._reached.set()
        self.on_request()

    async def reached(self, count: int) -> None:
        """Wait until this many requests have arrived in all.

        Raises:
            TimeoutError: they do not arrive.
        """
        if self.count < count:
            self._wanted = count
            self._reached.clear()
            async with asyncio.timeout(PATIENCE):
                await self._reached.wait()


class _Receiving(asyncio.Protocol):
    """One connection to the target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            asyncio.Transport, transport
        )  # uvloop's transport has another base class

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        while True:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                break
            head = received[:end]
            whole = end + 4 + length_of(head)
            if len(received) < whole:
                break
            received = received[whole:]
            self._target.received(head)
            self._answer()
        self._received = received

    def _answer(self) -> None:
        if self._target.hangs:
            return
        if self._target.delay:
            loop = asyncio.get_running_loop()
            loop.call_later(self._target.delay, self._transport.write, ANSWER)
        else:
            self._transport.write(ANSWER)


async def serve(port: int) -> None:
    """Listen until the process is terminated."""
    async with Target().listening(port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
