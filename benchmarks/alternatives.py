"""How fast are the alternatives, doing nothing and making the same HTTP call?"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import machine, servers
from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import pushes
from benchmarks.measuring import as_rate, in_us, scaled
from benchmarks.rounds import drain_round, push_round, sustained_round
from benchmarks.sidecar import fresh, on_disk
from benchmarks.target import Target

COUNT = scaled(5_000, quick=300)
OURS = scaled(40_000, quick=5_000)
PATIENCE = 90.0  # seconds for the tasks of one round
LOOK = 0.002  # seconds between two looks
BIN = Path(sys.executable).parent
KINDS = ("call", "nothing")
CELERY = "Celery with Redis"


@dataclass(frozen=True)
class Peer:
    """An alternative, with the settings that its documentation names for speed."""

    name: str
    package: str
    module: str
    server: servers.Server
    worker: str  # the command, in the environment's folder of programs
    settings: str
    worker_for_calls: str = ""  # when another suits work that waits
    prepare: str = ""


PEERS = (
    Peer(
        CELERY,
        "celery",
        "celery_redis",
        servers.redis,
        "celery -A benchmarks.peers.celery_redis worker -l ERROR -c 2 "
        "--without-gossip --without-mingle --without-heartbeat",
        "prefork, 2 processes (calls: gevent, 64); results ignored, prefetch multiplier 64, no "
        "gossip, mingle, heartbeat, remote control; Redis without persistence",
        worker_for_calls="celery -A benchmarks.peers.celery_redis worker -l ERROR -P gevent "
        "-c 64 --without-gossip --without-mingle --without-heartbeat",
    ),
    Peer(
        "Huey with SQLite",
        "huey",
        "huey_sqlite",
        servers.sqlite,
        "huey_consumer benchmarks.peers.huey_sqlite.huey -w 8 -k thread -d 0.001 -m 0.01 -n -q",
        "8 threads, results off, WAL, fsync off, poll 1 to 10 ms, nothing periodic",
    ),
    Peer(
        "Dramatiq with Redis",
        "dramatiq",
        "dramatiq_redis",
        servers.redis,
        "dramatiq benchmarks.peers.dramatiq_redis -p 2 -t 8",
        "2 processes of 8 threads; no results; Redis without persistence",
    ),
    Peer(
        "RQ",
        "rq",
        "rq_redis",
        servers.redis,
        "rq worker-pool -n 2 -w rq.worker.SimpleWorker -q -u {broker} default",
        "2 SimpleWorkers (no fork for each task), results not kept; Redis without persistence",
    ),
    Peer(
        "Procrastinate with PostgreSQL",
        "procrastinate",
        "procrastinate_postgres",
        servers.postgres,
        "procrastinate --app=benchmarks.peers.procrastinate_postgres.app worker -c 64 "
        "--delete-jobs=successful",
        "asyncio, concurrency 64, ended jobs deleted, LISTEN/NOTIFY; PostgreSQL with its "
        "defaults, fsync on",
        prepare="procrastinate --app=benchmarks.peers.procrastinate_postgres.app schema --apply",
    ),
    Peer(
        "beanstalkd",
        "greenstalk",
        "beanstalk",
        servers.beanstalkd,
        "python -m benchmarks.peers.beanstalk 2",
        "2 workers that reserve, work, delete; no binlog: in memory only",
    ),
)


@dataclass(frozen=True)
class Rates:
    """How many tasks a second, and what one costs in CPU time."""

    push: float
    drain: float
    sustained: float
    cpu_each: float


class Running:
    """A peer's server and environment; its workers and its producer are started when needed."""

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
        """Wait until so many tasks were done; return when."""
        deadline = time.monotonic() + PATIENCE
        while self.count() < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.count()} of {count} tasks were done in {PATIENCE} s")
            await asyncio.sleep(LOOK)
        return time.monotonic()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Run its workers."""
        command = self.peer.worker
        if self.kind == "call":
            command = self.peer.worker_for_calls or command
        process = await self._start(command)
        self.sessions.append(process.pid)
        try:
            yield
        finally:
            await _end(process)

    @asynccontextmanager
    async def producing(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run its producer, which waits to be told how many tasks to push."""
        process = await self._start(
            f"python -m benchmarks.peers.producing {self.peer.module} {self.kind}"
        )
        try:
            yield process
        finally:
            await _end(process)

    async def prepare(self) -> None:
        """Make what it needs in its server."""
        if self.peer.prepare:
            process = await self._start(self.peer.prepare)
            await process.communicate()
            assert process.returncode == 0, self.peer.prepare

    async def _start(self, command: str) -> asyncio.subprocess.Process:
        program, *flags = command.format(broker=self.env["BENCH_BROKER"]).split()
        return await asyncio.create_subprocess_exec(
            str(BIN / program), *flags, env=self.env, start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                await process.communicate()


async def pushed(producer: asyncio.subprocess.Process, count: int) -> tuple[float, float]:
    """Have a producer push; return when it began, and how many seconds it took."""
    assert producer.stdin is not None
    assert producer.stdout is not None
    producer.stdin.write(f"{count}\n".encode())
    answer = await producer.stdout.readline()
    if not answer:
        raise RuntimeError("the producer broke down")
    started, seconds = answer.split()
    return float(started), float(seconds)


@asynccontextmanager
async def started(peer: Peer, kind: str, target: Target) -> AsyncIterator[Running]:
    """Run a peer's server."""
    with on_disk() as folder:
        async with peer.server(folder) as (broker, session):
            env = {
                **os.environ,
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "PYTHONPATH": str(Path(__file__).parent.parent),
                "BENCH_BROKER": broker,
                "BENCH_TARGET": target.url,
                "BENCH_DONE": str(folder / "done"),
            }
            (folder / "done").touch(mode=0o666)
            running = Running(peer, kind, env, session)
            await running.prepare()
            yield running


async def measured(peer: Peer, kind: str) -> Rates:
    """Push without workers, drain with them, then both at once."""
    async with (
        Target().listening() as target,
        started(peer, kind, target) as running,
        running.producing() as producer,
    ):
        await pushed(producer, 1)
        _, pushing = await pushed(producer, COUNT)
        async with running.working():
            begun = await running.reached(2)
            done, cpu = running.count(), running.cpu()
            draining = await running.reached(COUNT + 1) - begun
            drain, cpu = (COUNT + 1 - done) / draining, running.cpu() - cpu
            begun, _ = await pushed(producer, COUNT)
            sustained = await running.reached(2 * COUNT + 1) - begun
        return Rates(COUNT / pushing, drain, COUNT / sustained, cpu / COUNT)


async def ours() -> Rates:
    """Measure the sidecar: its tasks are always calls."""
    async with Target().listening() as target, fresh("--start-paused") as sidecar:
        push = await push_round(sidecar, pushes(target.url, OURS), OURS)
        drain = await drain_round(sidecar, target, OURS)
        sustained = await sustained_round(sidecar, target, OURS)
    return Rates(push.rate, drain.rate, sustained.rate, drain.cpu_each)


async def answer() -> Answer:
    """Compare ours, on one core, with each peer on all of them."""
    servers.install()
    our_rates = await ours()
    machine.unpin()
    rows = [_row("poussetaches", "call", our_rates, our_rates)]
    series = {"poussetaches": [our_rates.sustained]}
    for peer in PEERS:
        for kind in KINDS:
            try:
                rates = await measured(peer, kind)
            except Exception as exc:  # a peer that fails is named, with the reason
                reason = f"not measured: {type(exc).__name__}: {exc}"
                rows.append([peer.name, kind, reason, *[""] * (len(HEAD) - 3)])
                continue
            rows.append(_row(peer.name, kind, rates, our_rates))
            series.setdefault(peer.name, []).append(rates.sustained)
    celery = series.get(CELERY, [])
    figures = {"times_celery": our_rates.sustained / celery[0]} if celery else {}
    return Answer(
        question="alternatives",
        tables=[
            Table("The alternatives", HEAD, rows, NOTE),
            Table(
                "Their settings",
                ["", "version", "settings"],
                [[peer.name, _versions(peer), peer.settings] for peer in PEERS],
            ),
        ],
        figures=figures,
        series=series,
    )


HEAD = ["", "task", "push, tasks/s", "drain, tasks/s", "both at once, tasks/s",
        "CPU of broker and workers, µs a task", "ours at once is"]  # fmt: skip
NOTE = (
    "Ours has one core and 64 connections that push; what it calls runs on the other. The peers "
    "may use both cores, and one process of theirs pushes, as an application does. None but "
    "Procrastinate and ours has a task on disk when its push returns."
)


def _versions(peer: Peer) -> str:
    library = f"{peer.package} {version(peer.package)}"
    server = servers.version_of(peer.server)
    return f"{library}, {server}" if server else library


def _row(name: str, kind: str, rates: Rates, our_rates: Rates) -> list[str]:
    return [
        name, kind, as_rate(rates.push), as_rate(rates.drain), as_rate(rates.sustained),
        in_us(rates.cpu_each), f"{our_rates.sustained / rates.sustained:.1f} times",
    ]  # fmt: skip


if __name__ == "__main__":
    publish(answer())
