"""The sidecar: a server with a core of its own, as the benchmarks start and ask it."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
from pyreqwest.client import Client, ClientBuilder

from benchmarks import machine
from benchmarks.bodies import BATCH, batches

PATIENCE = 60.0  # seconds
LOOK = 0.002  # seconds between two looks
IN_FLIGHT = 64
COMMON_FLAGS = ("--concurrency", str(IN_FLIGHT), "--log-level", "error")
LINES = {"Content-Type": "application/x-ndjson"}


class Counts(msgspec.Struct):
    """How many tasks there are of each state."""

    waiting: int
    running: int
    succeeded: int
    dead: int


class _Stats(msgspec.Struct):
    counts: Counts


_decode_stats = msgspec.json.Decoder(_Stats).decode


class Sidecar:
    """A running server."""

    def __init__(self, port: int, process: int, client: Client) -> None:
        self.port = port
        self.process = process
        self._client = client

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Make one request of the API.

        Raises:
            RuntimeError: it was refused.
        """
        request = self._client.request(method, f"http://127.0.0.1:{self.port}{path}")
        response = await request.headers(LINES).body_bytes(body).build().send()
        answer = bytes(await response.bytes())
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {answer[:500]!r}")
        return answer

    async def pause(self) -> None:
        """Deliver nothing more for now."""
        await self.ask("POST", "/v1/pause")

    async def resume(self) -> None:
        """Deliver."""
        await self.ask("POST", "/v1/resume")

    async def counts(self) -> Counts:
        """Return how many tasks there are of each state."""
        return _decode_stats(await self.ask("GET", "/v1/stats?minutes=1")).counts

    async def push(self, tasks: Sequence[bytes], count: int, size: int = BATCH) -> None:
        """Push so many tasks in batches, taken in turn from a few."""
        for batch in batches(tasks, count, size):
            await self.ask("POST", "/v1/tasks/batch", batch)

    async def recorded(self, left: int = 0) -> None:
        """Wait until no more than so many tasks have not come to their end.

        Raises:
            TimeoutError: that did not happen.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            counts = await self.counts()
            if counts.waiting + counts.running <= left:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"there still are {counts}")
            await asyncio.sleep(LOOK)

    def cpu(self) -> float:
        """Return the CPU time that it has used."""
        return machine.cpu_seconds(self.process)

    def memory(self) -> float:
        """Return how much memory it holds, in MB."""
        return machine.memory(self.process)


@asynccontextmanager
async def serving(data_dir: Path, *flags: str) -> AsyncIterator[Sidecar]:
    """Run a server on a core of its own, from its first answer on."""
    port = free_port()
    server = [sys.executable, "-m", "poussetaches", "serve", "--port", str(port)]
    command = [*server, "--data-dir", str(data_dir), *COMMON_FLAGS, *flags]
    async with (
        ClientBuilder().no_proxy().build() as client,
        running([*machine.on_core(machine.SERVER_CORE), *command], port) as process,
    ):
        await listening(port)
        sidecar = Sidecar(port, process, client)
        await sidecar.ask("GET", "/healthz")
        yield sidecar


@asynccontextmanager
async def fresh(*flags: str) -> AsyncIterator[Sidecar]:
    """Run a server with an empty store."""
    with on_disk() as folder:
        async with serving(folder / "data", *flags) as sidecar:
            yield sidecar


@contextmanager
def on_disk() -> Iterator[Path]:
    """Return a folder that is on a disk, unlike /tmp on many machines."""
    with tempfile.TemporaryDirectory(prefix="poussetaches-bench-", dir="/var/tmp") as folder:
        yield Path(folder)


@asynccontextmanager
async def running(command: Sequence[str], port: int) -> AsyncIterator[int]:
    """Run a process that listens on a port; yield its number, end it at the end.

    Raises:
        RuntimeError: it did not end well.
    """
    process = await asyncio.create_subprocess_exec(*command)
    try:
        yield process.pid
    finally:
        process.terminate()
        # Meanwhile the target answers what is in flight.
        await process.wait()
    if process.returncode not in (0, -15):
        raise RuntimeError(f"the process on port {port} ended with {process.returncode}")


async def listening(port: int) -> None:
    """Wait until somebody listens on a port.

    Raises:
        TimeoutError: nobody does.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(LOOK)
        else:
            writer.close()
            return
    raise TimeoutError(f"nobody listens on port {port}")


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
