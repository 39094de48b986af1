"""Measures how many tasks per second can be pushed durably, one by one and in batches."""

from __future__ import annotations

from itertools import repeat

from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import push_of
from benchmarks.limits import batch_rate, commit_time, server_round, uvicorn_round
from benchmarks.load import CONNECTIONS, request_of
from benchmarks.measuring import as_part, as_rate, in_us, scaled
from benchmarks.rounds import Round, batch_round, best, push_round
from benchmarks.sidecar import fresh

COUNT = scaled(40_000, quick=5_000)
ALONE = scaled(2_000, quick=200)
SIZES = (1_000, 10_000)
IN_BATCHES = scaled(200_000, quick=20_000)
TIMES = scaled(3, quick=1)
URL = "http://127.0.0.1:9/tasks/work"
# As the original's clients push: the body in base64, with an expected status.
ORIGINAL = b'{"url": "%s", "payload": "eyJ1c2VyIjogNDJ9", "expected": 200, "schedule": ""}'
HEAD = ["", "tasks/s", "CPU of the sidecar, µs a task", "limit, a second", "of the limit"]


async def one_by_one(request: bytes, count: int = COUNT, connections: int = CONNECTIONS) -> Round:
    """Push over some connections, one request at a time on each."""
    async with fresh("--start-paused") as sidecar:
        rounds = [
            await push_round(sidecar, repeat(request, count), count, connections)
            for _ in range(TIMES)
        ]
    return best(rounds)


async def in_batches(size: int) -> Round:
    """Push in batches, over one connection."""
    async with fresh("--start-paused") as sidecar:
        rounds = [await batch_round(sidecar, push_of(URL), IN_BATCHES, size) for _ in range(TIMES)]
    return best(rounds)


def compared(name: str, found: Round, limit: float) -> list[str]:
    """Return a row that compares with a limit."""
    part = as_part(found.rate / limit)
    return [name, as_rate(found.rate), in_us(found.cpu_each), as_rate(limit), part]


async def answer() -> Answer:
    """Compare with the bare server, and with bare rows."""
    figures: dict[str, float] = {}
    before = await server_round(COUNT), await uvicorn_round(COUNT)
    original = await one_by_one(request_of(ORIGINAL % URL.encode(), path="/"))
    v1 = await one_by_one(request_of(push_of(URL)))
    bare_server = best([before[0], await server_round(COUNT)])
    uvicorn = best([before[1], await uvicorn_round(COUNT)])
    limit = bare_server.rate
    alone, commit = await one_by_one(request_of(push_of(URL)), ALONE, 1), commit_time()
    figures |= {
        "push_rate": v1.rate, "push_cpu": v1.cpu_each, "push_alone_rate": alone.rate,
        "push_of_limit": v1.rate / limit, "push_of_uvicorn": v1.rate / uvicorn.rate,
    }  # fmt: skip
    singles = [
        compared("`POST /v1/tasks`", v1, limit),
        compared("`POST /`, the original's", original, limit),
        compared("`POST /v1/tasks`, one connection", alone, 1 / commit),
    ]
    batched = []
    for size in SIZES:
        found, bare = await in_batches(size), batch_rate(size, IN_BATCHES)
        batched.append(compared(f"batches of {size:,}", found, bare))
        figures[f"batch_{size}_rate"] = found.rate
        figures[f"batch_{size}_of_limit"] = found.rate / bare
    return Answer(
        question="push",
        tables=[
            Table(
                "Pushing one by one, durable",
                HEAD,
                singles,
                "64 connections, one request at a time on each. The limit is the bare server, and "
                "for one connection bare commits of one row, one after another. In CPU time, the "
                f"bare server needed {in_us(bare_server.cpu_each)} µs a push. Bare uvicorn "
                f"answered {as_rate(uvicorn.rate)} a second, {in_us(uvicorn.cpu_each)} µs each; "
                f"`POST /v1/tasks` has {as_part(v1.rate / uvicorn.rate)} of that.",
            ),
            Table(
                "Pushing in batches, durable",
                HEAD,
                batched,
                "One connection. The limit is bare SQLite with the same rows, tables and indexes.",
            ),
        ],
        figures=figures,
    )


if __name__ == "__main__":
    publish(answer())
