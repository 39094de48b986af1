"""An alternative that runs: its server, its workers, and its producer."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, servers
from benchmarks.sidecar import on_disk
from benchmarks.target import Target

PATIENCE = 90.0  # seconds for the tasks of one round
POLL_INTERVAL = 0.002  # seconds between two polls
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Peer:
    """An alternative, with the settings that its documentation names for speed."""

    name: str
    package: str
    module: str
    server: servers.Server
    worker: str  # the command, in the environment's folder of programs
    settings: str
    worker_for_calls: str = ""  # another one for tasks that wait for a call
    prepare: str = ""


class Running:
    """A peer's server and environment; workers and producer are started on demand."""

    def __init__(self, peer: Peer, kind: str, env: dict[str, str], session: int) -> None:
        self.peer = peer
        self.kind = kind
        self.env = env
        self.sessions = [session]
        self.done = Path(env["BENCH_DONE"])

    def count(self) -> int:
        """Return how many tasks were done."""
        return self.done.stat().st_size

    def cpu(self) -> float:
        """Return the CPU time of server and workers."""
        return sum(machine.session_cpu_seconds(session) for session in self.sessions if session)

    async def reached(self, count: int) -> float:
        """Wait until this many tasks were done; return the time.

        Raises:
            TimeoutError: they are not done.
        """
        deadline = time.perf_counter() + PATIENCE
        while self.count() < count:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{self.count()} of {count} tasks were done in {PATIENCE} s")
            await asyncio.sleep(POLL_INTERVAL)
        return time.perf_counter()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Run its workers."""
        command = self.peer.worker
        if self.kind == "call":
            command = self.peer.worker_for_calls or command
        async with _started(command, self.env) as process:
            self.sessions.append(process.pid)
            yield

    async def prepare(self) -> None:
        """Prepare its server."""
        if self.peer.prepare:
            async with _started(self.peer.prepare, self.env) as process:
                await process.communicate()
            assert process.returncode == 0, self.peer.prepare


class Producer:
    """A process that pushes on command, as an application does."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def push(self, count: int) -> tuple[float, float]:
        """Push this many tasks; return the start time and the duration in seconds.

        Raises:
            RuntimeError: the producer failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n".encode())
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the producer broke down")
        started, seconds = answer.split()
        return float(started), float(seconds)


@asynccontextmanager
async def producing(module: str, kind: str, env: dict[str, str]) -> AsyncIterator[Producer]:
    """Run a producer."""
    command = f"python -m benchmarks.peers.producing {module} {kind}"
    async with _started(command, env) as process:
        yield Producer(process)


def environment(broker: str, target: Target, folder: Path) -> dict[str, str]:
    """Return the environment of a peer's processes."""
    done = folder / "done"
    done.touch(mode=0o666)
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "BENCH_BROKER": broker,
        "BENCH_TARGET": target.url,
        "BENCH_DONE": str(done),
    }


@asynccontextmanager
async def running(peer: Peer, kind: str, target: Target) -> AsyncIterator[Running]:
    """Run a peer's server."""
    with on_disk() as folder:
        async with peer.server(folder) as (broker, session):
            found = Running(peer, kind, environment(broker, target, folder), session)
            await found.prepare()
            yield found


@asynccontextmanager
async def _started(command: str, env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program of our environment; at the end, kill it with all its descendants."""
    program, *flags = command.format(broker=env["BENCH_BROKER"]).split()
    process = await asyncio.create_subprocess_exec(
        str(BIN / program), *flags, env=env, start_new_session=True,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(3):
                    await process.communicate()
