"""Measures nine origins beside a tenth that hangs, without slots set for origins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle, islice

from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import push_of
from benchmarks.load import Load, request_of, send_paced
from benchmarks.measuring import as_part, as_rate, scaled
from benchmarks.sidecar import fresh
from benchmarks.target import Target

ORIGINS = 10
EACH = scaled(3_000, quick=300)  # tasks of each origin
RATE = 1_000.0  # tasks a second, all origins together
SECONDS = scaled(8, quick=2)
ANSWERS_AFTER = 0.005  # seconds, when tasks are pushed at a rate
FLAGS = ("--drain-timeout", "0")  # do not wait for hanging attempts


@asynccontextmanager
async def origins(*, hanging: bool, delay: float = 0.0) -> AsyncIterator[list[Target]]:
    """Listen on ten ports; the last one may never answer."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Target(hangs=hanging and number == ORIGINS - 1, delay=delay).listening()
            )
            for number in range(ORIGINS)
        ]


async def drained(*, hanging: bool) -> float:
    """Deliver a backlog to all ten; return how many tasks a second the nine receive."""
    async with origins(hanging=hanging) as targets, fresh("--start-paused", *FLAGS) as sidecar:
        await sidecar.push([push_of(target.url) for target in targets], ORIGINS * EACH)
        healthy, started = targets[:-1], time.perf_counter()
        await sidecar.resume()
        await asyncio.gather(*(target.reached(EACH) for target in healthy))
        return len(healthy) * EACH / (time.perf_counter() - started)


async def paced(*, hanging: bool) -> float:
    """Push at a rate to all ten; return how many tasks a second the nine receive."""
    total = int(RATE * SECONDS)
    async with origins(hanging=hanging, delay=ANSWERS_AFTER) as targets:
        requests = cycle([request_of(push_of(target.url)) for target in targets])
        healthy = targets[:-1]
        async with fresh(*FLAGS) as sidecar, Load.to(sidecar.port) as load:
            started = await send_paced(load, islice(requests, total), RATE)
            await asyncio.gather(*(target.reached(total // ORIGINS) for target in healthy))
            return len(healthy) * total / ORIGINS / (time.perf_counter() - started)


async def answer() -> Answer:
    """Compare with ten answering origins."""
    rows, figures = [], {}
    for name, measured, key in (
        ("a backlog is drained", drained, "drain"),
        (f"{RATE:,.0f} tasks/s are pushed, answers take 5 ms", paced, "paced"),
    ):
        healthy, hanging = await measured(hanging=False), await measured(hanging=True)
        kept = hanging / healthy
        rows.append([name, as_rate(healthy), as_rate(hanging), as_part(kept)])
        figures[f"origins_{key}_kept"] = kept
    head = ["", "all answer: tasks/s of the nine", "one hangs: tasks/s of the nine", "kept"]
    return Answer(
        question="origins",
        tables=[Table("One origin of ten hangs", head, rows)],
        figures=figures,
    )


if __name__ == "__main__":
    publish(answer())
