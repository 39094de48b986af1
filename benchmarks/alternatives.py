"""Measures the alternatives, with tasks that do nothing or make the same HTTP call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib.metadata import version

from benchmarks import machine, servers
from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import pushes
from benchmarks.measuring import as_rate, in_ms, in_us, percentile, scaled
from benchmarks.peer import Peer, Producer, environment, producing, running
from benchmarks.rounds import drain_round, push_round, sustained_round
from benchmarks.sidecar import fresh, on_disk
from benchmarks.target import Target

COUNT = scaled(5_000, quick=300)
OURS = scaled(40_000, quick=5_000)
LONE = scaled(200, quick=20)
REST = 0.01  # seconds between two lone tasks
PARTS = (0.5, 0.95, 0.99)
KINDS = ("call", "nothing")
CELERY, HUEY, BEANSTALKD = "Celery with Redis", "Huey with SQLite", "beanstalkd"

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
        HUEY,
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
    *(
        Peer(
            f"{client} and a Redis list, hand-written",
            client,
            f"own_{client}",
            servers.redis,
            f"python -m benchmarks.peers.own_{client} 64",
            "1 process of asyncio, 64 coroutines that take a task and call; nothing is retried; "
            "Redis without persistence",
        )
        for client in ("aiohttp", "httpx")
    ),
    Peer(
        BEANSTALKD,
        "greenstalk",
        "beanstalk",
        servers.beanstalkd,
        "python -m benchmarks.peers.beanstalk 2",
        "2 workers that reserve, work, delete; no binlog: in memory only",
    ),
)


@dataclass(frozen=True)
class Found:
    """Tasks a second, CPU time of a task, and the latency of a single one."""

    push: float
    drain: float
    sustained: float
    cpu_each: float
    lone: list[float]  # seconds from a push to its call; of calls alone


async def measured(peer: Peer, kind: str) -> Found:
    """Push without workers, drain with them, then both at once, then one by one."""
    async with (
        Target().listening() as target,
        running(peer, kind, target) as server,
        producing(peer.module, kind, server.env) as producer,
    ):
        await producer.push(1)
        _, pushing = await producer.push(COUNT)
        async with server.working():
            begun = await server.reached(2)
            done, cpu = server.count(), server.cpu()
            draining = await server.reached(COUNT + 1) - begun
            drain, cpu = (COUNT + 1 - done) / draining, server.cpu() - cpu
            begun, _ = await producer.push(COUNT)
            sustained = await server.reached(2 * COUNT + 1) - begun
            times = await lone(producer, target) if kind == "call" else []
    return Found(COUNT / pushing, drain, COUNT / sustained, cpu / COUNT, times)


async def ours() -> Found:
    """Measure the sidecar: its tasks are always calls."""
    async with Target().listening() as target, fresh("--start-paused") as sidecar:
        push = await push_round(sidecar, pushes(target.url, OURS), OURS)
        drain = await drain_round(sidecar, target, OURS)
        sustained = await sustained_round(sidecar, target, OURS)
        with on_disk() as folder:
            env = environment(f"http://127.0.0.1:{sidecar.port}", target, folder)
            async with producing("ours", "call", env) as producer:
                times = await lone(producer, target)
    return Found(push.rate, drain.rate, sustained.rate, drain.cpu_each, times)


async def lone(producer: Producer, target: Target) -> list[float]:
    """Push single tasks with pauses; return the seconds from each push to its call."""
    found = []
    for number in range(LONE + 1):
        await asyncio.sleep(REST)
        called = target.count
        begun, _ = await producer.push(1)
        await target.reached(called + 1)
        if number:  # the first has connections to make
            found.append(target.last_at - begun)
    return found


async def answer() -> Answer:
    """Compare the sidecar, on one core, with each peer on all cores."""
    servers.install()
    our = await ours()
    machine.unpin()
    rows, lone_rows = [_row(OUR_NAME, "call", our, our)], [_lone_row(OUR_NAME, our)]
    series = {OUR_NAME: [our.sustained]}
    for peer in PEERS:
        for kind in KINDS:
            try:
                found = await measured(peer, kind)
            except Exception as exc:  # a failing peer is reported with the reason
                reason = f"not measured: {type(exc).__name__}: {exc}"
                rows.append([peer.name, kind, reason, *[""] * (len(HEAD) - 3)])
                if kind == "call":
                    lone_rows.append([peer.name, "not measured", "", ""])
                series.setdefault(peer.name, []).append(0.0)
                continue
            rows.append(_row(peer.name, kind, found, our))
            if kind == "call":
                lone_rows.append(_lone_row(peer.name, found))
            series.setdefault(peer.name, []).append(found.sustained)
    rivals = {"celery": (CELERY, "call"), "beanstalkd": (BEANSTALKD, "call"),
              "huey_nothing": (HUEY, "nothing")}  # fmt: skip
    rates = {key: series[name][KINDS.index(kind)] for key, (name, kind) in rivals.items()}
    figures = {f"times_{key}": our.sustained / rate for key, rate in rates.items() if rate}
    return Answer(
        question="alternatives",
        tables=[
            Table("The alternatives", HEAD, rows, NOTE),
            Table("A lone task, from push to call", LONE_HEAD, lone_rows, LONE_NOTE),
            Table(
                "Their settings",
                ["", "version", "settings"],
                [[peer.name, _versions(peer), peer.settings] for peer in PEERS],
            ),
        ],
        figures=figures,
        series=series,
    )


OUR_NAME = "poussetaches"
HEAD = ["", "task", "push, tasks/s", "drain, tasks/s", "both at once, tasks/s",
        "CPU of broker and workers, µs a task", "ours at once is"]  # fmt: skip
NOTE = (
    "Ours has one core and 64 connections that push; what it calls runs on the other. The peers "
    "may use both cores, and one process of theirs pushes, as an application does. None but "
    "Procrastinate and ours has a task on disk when its push returns."
)
LONE_HEAD = ["", "median, ms", "p95, ms", "p99, ms"]
LONE_NOTE = (
    f"{LONE} tasks, one at a time, with {REST * 1000:.0f} ms of rest between a call and the next "
    "push; from when the application's process begins to push (ours: one HTTP request with "
    "urllib3) to when the call is with the target. Settings, cores and durability are those of "
    "the table above. Idle workers of Huey and Dramatiq look again and again, at intervals that "
    "grow (Huey 1 to 10 ms, Dramatiq from 5 ms on, doubled each time); the others are woken."
)


def _versions(peer: Peer) -> str:
    library = f"{peer.package} {version(peer.package)}"
    server = servers.version_of(peer.server)
    return f"{library}, {server}" if server else library


def _row(name: str, kind: str, found: Found, our: Found) -> list[str]:
    return [
        name, kind, as_rate(found.push), as_rate(found.drain), as_rate(found.sustained),
        in_us(found.cpu_each), f"{our.sustained / found.sustained:.1f} times",
    ]  # fmt: skip


def _lone_row(name: str, found: Found) -> list[str]:
    return [name, *(in_ms(percentile(found.lone, part)) for part in PARTS)]


if __name__ == "__main__":
    publish(answer())
