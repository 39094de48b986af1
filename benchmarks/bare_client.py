"""The limit of deliveries: only pyreqwest, with a number of requests in flight."""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec
import uvloop
from pyreqwest.client import Client, ClientBuilder

from benchmarks.bodies import BODY

HEADERS = {"Content-Type": "application/json"}


class Called(msgspec.Struct):
    """The time of the calls."""

    seconds: float
    cpu: float


async def call(client: Client, url: str, count: int) -> None:
    """Make some calls, one after another."""
    for _ in range(count):
        response = await client.post(url).headers(HEADERS).body_bytes(BODY).build().send()
        assert response.status == 200


async def main(url: str, count: int, in_flight: int) -> None:
    """Make calls, and print how long they took."""
    async with ClientBuilder().no_proxy().build() as client:
        await call(client, url, 10)
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(call(client, url, count // in_flight) for _ in range(in_flight)))
        called = Called(time.perf_counter() - started, time.process_time() - cpu)
    sys.stdout.write(msgspec.json.encode(called).decode())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
