"""What do the parts allow: the bare server, the bare client, bare rows, the load itself?"""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from statistics import median

import msgspec

from benchmarks import machine
from benchmarks.answers import Answer, Table, publish
from benchmarks.bare_client import Called
from benchmarks.bare_rows import URL, BareRows
from benchmarks.bodies import pushes
from benchmarks.load import CONNECTIONS, Load, send_all
from benchmarks.measuring import as_rate, in_ms, in_us, scaled
from benchmarks.sidecar import IN_FLIGHT, free_port, listening, on_disk, running
from benchmarks.target import Target

REQUESTS = scaled(60_000, quick=8_000)
ROWS = scaled(100_000, quick=20_000)
COMMITS = scaled(1_000, quick=200)
COMPANY = 64  # rows in a commit that as many requests share
WARM_UP = 1_000  # requests


async def server_rate(count: int = REQUESTS) -> float:
    """Return how many pushes a second the bare HTTP server answers."""
    return await _answered("benchmarks.bare_server", count)


async def load_rate(count: int = REQUESTS) -> float:
    """Return how many pushes a second the load can send, to somebody who does next to nothing."""
    return await _answered("benchmarks.target", count)


async def _answered(module: str, count: int) -> float:
    port = free_port()
    command = [sys.executable, "-m", module, str(port)]
    async with running([*machine.on_core(machine.SERVER_CORE), *command], port):
        await listening(port)
        async with Load.to(port) as load:
            await send_all(load, pushes(URL, WARM_UP))
            return count / await send_all(load, pushes(URL, count))


async def client_rate(count: int = REQUESTS) -> float:
    """Return how many requests a second the bare HTTP client makes of the target."""
    async with Target().listening() as target:
        process = await asyncio.create_subprocess_exec(
            *machine.on_core(machine.SERVER_CORE), sys.executable, "-m", "benchmarks.bare_client",
            target.url, str(count), str(IN_FLIGHT), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        answer, _ = await process.communicate()
    return count / msgspec.json.decode(answer, type=Called).seconds


def row_rates() -> tuple[float, float]:
    """Return how many tasks a second can be added, and ended, in commits of some company."""
    with on_disk() as folder, closing(BareRows(folder / "bare.db")) as rows:
        return rows.add(ROWS, COMPANY), rows.end(ROWS, COMPANY)


def batch_rate(size: int, count: int = ROWS) -> float:
    """Return how many tasks a second can be added in batches of a size."""
    with on_disk() as folder, closing(BareRows(folder / "bare.db")) as rows:
        return rows.add(count, size)


def commit_time() -> float:
    """Return the median of the seconds that one task needs to become durable, alone."""
    with on_disk() as folder, closing(BareRows(folder / "bare.db")) as rows:
        return median(rows.commit_times(COMMITS))


def combined(*rates: float) -> float:
    """Return how often a second one core can do all of several things."""
    return 1 / sum(1 / rate for rate in rates)


async def answer() -> Answer:
    """Measure what each part does alone."""
    server, client, load = await server_rate(), await client_rate(), await load_rate()
    added, ended = row_rates()
    batched, commit = batch_rate(10_000), commit_time()
    limit = combined(server, client, added, ended)
    rates = [
        ("bare HTTP server: uvicorn, uvloop, httptools; JSON read and answered", server),
        ("bare HTTP client: pyreqwest, 64 in flight", client),
        ("bare rows: tasks added in commits of 64, fsync", added),
        ("bare rows: tasks ended, with their attempt, in commits of 64, fsync", ended),
        ("bare rows: tasks added in commits of 10,000, fsync", batched),
        ("a task added, alone in its commit, fsync", 1 / commit),
        ("all of it on one core: pushed, delivered and recorded", limit),
        (f"the load itself, over {CONNECTIONS} connections", load),
    ]
    return Answer(
        question="limits",
        tables=[
            Table(
                "What the parts allow",
                ["on one core", "a second", "each, µs"],
                [[name, as_rate(rate), in_us(1 / rate)] for name, rate in rates],
                f"One fsync with one row took {in_ms(commit)} ms at the median.",
            )
        ],
        figures={
            "bare_server": server,
            "bare_client": client,
            "bare_added": added,
            "bare_ended": ended,
            "bare_batched": batched,
            "bare_commits": 1 / commit,
            "bare_load": load,
            "bare_limit": limit,
        },
    )


if __name__ == "__main__":
    publish(answer())
