"""The sidecar: a server on its own core, started and called by the benchmarks."""

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
POLL_INTERVAL = 0.002  # seconds between two polls
IN_FLIGHT = 64
COMMON_FLAGS = ("--concurrency", str(IN_FLIGHT), "--log-level", "error")
LINES = {"Content-Type": "application/x-ndjson"}


class Counts(msgspec.Struct):
    """The number of tasks in each state."""

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
        """Send one request to the API.

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
        """Pause deliveries."""
        await self.ask("POST", "/v1/pause")

    async def resume(self) -> None:
        """Resume deliveries."""
        await self.ask("POST", "/v1/resume")

    async def counts(self) -> Counts:
        """Return the number of tasks in each state."""
        return _decode_stats(await self.ask("GET", "/v1/stats?minutes=1")).counts

    async def push(self, tasks: Sequence[bytes], count: int, size: int = BATCH) -> None:
        """Push this many tasks in batches, repeating the given bodies."""
        for batch in batches(tasks, count, size):
            await self.ask("POST", "/v1/tasks/batch", batch)

    async def recorded(self, left: int = 0) -> None:
        """Wait until at most this many tasks have not ended.

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
            await asyncio.sleep(POLL_INTERVAL)

    def cpu(self) -> float:
        """Return the CPU time that it has used."""
        return machine.cpu_seconds(self.process)

    def memory(self) -> float:
        """Return its resident memory, in MB."""
        return machine.memory(self.process)


@asynccontextmanager
async def serving(data_dir: Path, *flags: str) -> AsyncIterator[Sidecar]:
    """Run a server on its own core; yield it after its first answer."""
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
    """Return a folder on a disk, which /tmp often is not."""
    with tempfile.TemporaryDirectory(prefix="poussetaches-bench-", dir="/var/tmp") as folder:
        yield Path(folder)


@asynccontextmanager
async def running(command: Sequence[str], port: int) -> AsyncIterator[int]:
    """Run a process that listens on a port; yield its id, and stop it at the end.

    Raises:
        RuntimeError: it did not end well.
    """
    process = await asyncio.create_subprocess_exec(*command)
    try:
        yield process.pid
    finally:
        process.terminate()
        # Meanwhile, the target answers the attempts in flight.
        await process.wait()
    if process.returncode not in (0, -15):
        raise RuntimeError(f"the process on port {port} ended with {process.returncode}")


async def listening(port: int) -> None:
    """Wait until a process listens on a port.

    Raises:
        TimeoutError: none does.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(POLL_INTERVAL)
        else:
            writer.close()
            return
    raise TimeoutError(f"nobody listens on port {port}")


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
