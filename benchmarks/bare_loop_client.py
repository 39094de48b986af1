"""The limit of deliveries: an ``asyncio.Protocol`` on httptools that sends requests."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

from benchmarks.bare_client import Called
from benchmarks.bodies import BODY


class Calling(asyncio.Protocol):
    """A connection for one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[int]

    def request(self, data: bytes) -> asyncio.Future[int]:
        """Send a request; return the status of its response."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        """Parse data."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Return the status."""
        self._waiter.set_result(self._parser.get_status_code())


async def call(host: str, port: int, count: int) -> None:
    """Make some calls, one after another."""
    request = (
        b"POST /t HTTP/1.1\r\nhost: %b:%d\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (host.encode(), port, len(BODY), BODY)
    )
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Calling, host, port)
    for _ in range(count):
        assert await connection.request(request) == 200


async def main(url: str, count: int, in_flight: int) -> None:
    """Make calls, and print how long they took."""
    target = urlsplit(url)
    host, port = target.hostname or "", target.port or 80
    await call(host, port, 10)
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(call(host, port, count // in_flight) for _ in range(in_flight)))
    called = Called(time.perf_counter() - started, time.process_time() - cpu)
    sys.stdout.write(msgspec.json.encode(called).decode())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
