"""Measures the parts alone: the bare server, the bare client, bare rows, the load."""

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
from benchmarks.rounds import Round, best
from benchmarks.sidecar import IN_FLIGHT, free_port, listening, on_disk, running
from benchmarks.target import Target

REQUESTS = scaled(40_000, quick=8_000)
ROWS = scaled(50_000, quick=20_000)
TIMES = scaled(3, quick=1)  # the best is taken
COMMITS = scaled(1_000, quick=200)
COMMIT_SIZE = 64  # rows of a commit that concurrent requests share
WARM_UP = 1_000  # requests


async def server_round(count: int = REQUESTS) -> Round:
    """Push to the bare protocol, the limit of answers."""
    return await _answered("benchmarks.bare_protocol", count)


async def uvicorn_round(count: int = REQUESTS) -> Round:
    """Push to bare uvicorn."""
    return await _answered("benchmarks.bare_server", count)


async def load_rate(count: int = REQUESTS) -> float:
    """Return how many pushes a second the load can send to a minimal server."""
    return (await _answered("benchmarks.target", count)).rate


async def _answered(module: str, count: int) -> Round:
    port = free_port()
    command = [sys.executable, "-m", module, str(port)]
    async with running([*machine.on_core(machine.SERVER_CORE), *command], port) as process:
        await listening(port)
        async with Load.to(port) as load:
            await send_all(load, pushes(URL, WARM_UP))
            rounds = []
            for _ in range(TIMES):
                cpu = machine.cpu_seconds(process)
                seconds = await send_all(load, pushes(URL, count))
                rounds.append(Round(count, seconds, machine.cpu_seconds(process) - cpu))
            return best(rounds)


async def client_round(count: int = REQUESTS) -> Round:
    """Call the target from the bare loop, the limit of deliveries."""
    return best([await _called("benchmarks.bare_loop_client", count) for _ in range(TIMES)])


async def pyreqwest_round(count: int = REQUESTS) -> Round:
    """Call the target with bare pyreqwest."""
    return best([await _called("benchmarks.bare_client", count) for _ in range(TIMES)])


async def _called(module: str, count: int) -> Round:
    async with Target().listening() as target:
        process = await asyncio.create_subprocess_exec(
            *machine.on_core(machine.SERVER_CORE), sys.executable, "-m", module,
            target.url, str(count), str(IN_FLIGHT), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        answer, _ = await process.communicate()
    called = msgspec.json.decode(answer, type=Called)
    return Round(count, called.seconds, called.cpu)


def row_rates() -> tuple[float, float]:
    """Return how many tasks a second can be added, and ended, in commits of a size."""
    found = [_row_rates() for _ in range(TIMES)]
    return max(added for added, _ in found), max(ended for _, ended in found)


def _row_rates() -> tuple[float, float]:
    with on_disk() as folder, closing(BareRows(folder / "bare.db")) as rows:
        return rows.add(ROWS, COMMIT_SIZE), rows.end(ROWS, COMMIT_SIZE)


def batch_rate(size: int, count: int = ROWS) -> float:
    """Return how many tasks a second can be added in batches of a size."""
    with on_disk() as folder, closing(BareRows(folder / "bare.db")) as rows:
        return max(rows.add(count, size) for _ in range(TIMES))


def commit_time() -> float:
    """Return the median of the seconds until a single task is durable."""
    with on_disk() as folder, closing(BareRows(folder / "bare.db")) as rows:
        return median(rows.commit_times(COMMITS))


def combined(*rates: float) -> float:
    """Return how often a second one core can do several operations together."""
    return 1 / sum(1 / rate for rate in rates)


async def answer() -> Answer:
    """Measure each part alone."""
    server, client, load = await server_round(), await client_round(), await load_rate()
    uvicorn, pyreqwest = await uvicorn_round(), await pyreqwest_round()
    added, ended = row_rates()
    batched, commit = batch_rate(10_000), commit_time()
    limit = combined(server.rate, client.rate, added, ended)
    rates = [
        ("bare server: a protocol on httptools and uvloop; JSON read and answered", server.rate),
        ("for comparison, uvicorn", uvicorn.rate),
        ("bare client: a protocol on httptools and uvloop, 64 in flight", client.rate),
        ("for comparison, pyreqwest", pyreqwest.rate),
        ("bare rows: tasks added in commits of 64, fsync", added),
        ("bare rows: tasks ended, with their attempt, in commits of 64, fsync", ended),
        ("bare rows: tasks added in commits of 10,000, fsync", batched),
        ("a task added, alone in its commit, fsync", 1 / commit),
        ("all of it on one core: pushed, delivered and recorded", limit),
        (f"the load itself, over {CONNECTIONS} connections", load),
    ]
    note = (
        f"One fsync with one row took {in_ms(commit)} ms at the median. In CPU time, the server "
        f"needed {in_us(server.cpu_each)} µs a request (uvicorn {in_us(uvicorn.cpu_each)}), the "
        f"client {in_us(client.cpu_each)} µs (pyreqwest {in_us(pyreqwest.cpu_each)})."
    )
    rows = [[name, as_rate(rate), in_us(1 / rate)] for name, rate in rates]
    return Answer(
        question="limits",
        tables=[
            Table("What the parts allow", ["on one core", "a second", "each, µs"], rows, note)
        ],
        figures={
            "bare_server": uvicorn.rate,
            "bare_client": pyreqwest.rate,
            "bare_protocol": server.rate,
            "bare_loop_client": client.rate,
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
