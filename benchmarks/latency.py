"""Measures the time from a push to its delivery, idle and under load."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from itertools import count as numbers

from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import push_of
from benchmarks.limits import commit_time
from benchmarks.load import Load, request_of, send_paced
from benchmarks.measuring import as_rate, in_ms, percentile, scaled
from benchmarks.rounds import sustained_round
from benchmarks.sidecar import Sidecar, fresh
from benchmarks.target import Target

LONE = scaled(500, quick=50)
PAUSE = 0.01  # seconds until the server is idle
SECONDS = scaled(10, quick=2)
LOADS = (0.5, 0.9)  # of the sustained rate
WARM_UP = scaled(30_000, quick=5_000)
CONNECTIONS = 256  # enough for late answers
PARTS = (0.5, 0.95, 0.99)
STEPS = 200  # of the drawn curve


def numbered(target: Target) -> Iterator[bytes]:
    """Return pushes with different paths, to recognize their deliveries."""
    for number in numbers():
        yield request_of(push_of(f"{target.url}/{number}"))


async def lone(sidecar: Sidecar, target: Target) -> list[float]:
    """Push single tasks with pauses; return the seconds from each push to its delivery."""
    arrivals: dict[int, float] = {}
    target.arrivals = arrivals
    requests, before = numbered(target), target.count
    found = []
    async with Load.to(sidecar.port, 1) as load:
        for number in range(LONE):
            started = time.perf_counter()
            load.send(next(requests))
            await target.reached(before + number + 1)
            found.append(arrivals[number] - started)
            await load.quiet()
            await asyncio.sleep(PAUSE)
    target.arrivals = None
    return found


async def loaded(sidecar: Sidecar, target: Target, rate: float) -> list[float]:
    """Push at a rate; return the seconds from each push's planned time to its delivery."""
    arrivals: dict[int, float] = {}
    target.arrivals = arrivals
    total, before = int(rate * SECONDS), target.count
    requests = iter([request for request, _ in zip(numbered(target), range(total), strict=False)])
    async with Load.to(sidecar.port, CONNECTIONS) as load:
        gc.disable()  # a pause of the load would count as the sidecar's
        try:
            started = await send_paced(load, requests, rate)
            await target.reached(before + total)
        finally:
            gc.enable()
    target.arrivals = None
    await sidecar.recorded()
    return [at - started - number / rate for number, at in arrivals.items()]


async def answer() -> Answer:
    """Measure the sustained rate, then the latency when idle and at parts of that rate."""
    rows: list[list[str]] = []
    figures: dict[str, float] = {"commit_time": commit_time()}
    series: dict[str, list[float]] = {}

    def add(name: str, rate: str, found: list[float]) -> None:
        ordered = sorted(found)
        parts = [percentile(ordered, part) for part in PARTS]
        rows.append([name, rate, *(in_ms(part) for part in parts), in_ms(ordered[-1])])
        series[name] = [percentile(ordered, step / STEPS) for step in range(1, STEPS + 1)]
        key = f"latency_{name.split('%', maxsplit=1)[0]}"
        figures[f"{key}_p50"], figures[f"{key}_p99"] = parts[0], parts[2]

    async with Target().listening() as target, fresh() as sidecar:
        full = (await sustained_round(sidecar, target, WARM_UP)).rate
        add("idle", "one at a time", await lone(sidecar, target))
        for part in LOADS:
            found = await loaded(sidecar, target, part * full)
            add(f"{part:.0%} load", as_rate(part * full), found)
    figures["latency_idle_over_commit"] = figures["latency_idle_p50"] - figures["commit_time"]
    note = (
        f"Full load is the sustained rate of the same server, {as_rate(full)} tasks/s. One fsync "
        f"with one row took {in_ms(figures['commit_time'])} ms at the median."
    )
    head = ["", "tasks/s", "p50, ms", "p95, ms", "p99, ms", "longest, ms"]
    return Answer(
        question="latency",
        tables=[Table("From push to delivery", head, rows, note)],
        figures=figures,
        series=series,
    )


if __name__ == "__main__":
    publish(answer())
