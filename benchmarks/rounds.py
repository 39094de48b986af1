"""One round of work: pushing, draining, or both, in elapsed and CPU time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.bodies import pushes
from benchmarks.load import CONNECTIONS, Load, feeder, send_all
from benchmarks.sidecar import Sidecar
from benchmarks.target import Target

OUTSTANDING = 1_000  # pushed and not yet delivered tasks, in a sustained round


@dataclass(frozen=True)
class Round:
    """The time of a round."""

    count: int
    seconds: float
    cpu: float  # seconds of the sidecar's CPU time

    @property
    def rate(self) -> float:
        """The number of tasks per second."""
        return self.count / self.seconds

    @property
    def cpu_each(self) -> float:
        """The sidecar's CPU time per task."""
        return self.cpu / self.count


def best(rounds: Sequence[Round]) -> Round:
    """Return the fastest round: disturbances only make a round slower."""
    return max(rounds, key=lambda found: found.rate)


async def push_round(
    sidecar: Sidecar, requests: Iterator[bytes], count: int, connections: int = CONNECTIONS
) -> Round:
    """Push one by one, over some connections."""
    async with Load.to(sidecar.port, connections) as load:
        cpu = sidecar.cpu()
        seconds = await send_all(load, requests)
        return Round(count, seconds, sidecar.cpu() - cpu)


async def batch_round(sidecar: Sidecar, task: bytes, count: int, size: int) -> Round:
    """Push in batches, one after another."""
    started, cpu = time.perf_counter(), sidecar.cpu()
    await sidecar.push([task], count, size)
    return Round(count, time.perf_counter() - started, sidecar.cpu() - cpu)


async def drain_round(sidecar: Sidecar, target: Target, count: int, *, left: int = 0) -> Round:
    """Deliver and record this many tasks; others may stay waiting."""
    aim = target.count + count
    started, cpu = time.perf_counter(), sidecar.cpu()
    await sidecar.resume()
    await target.reached(aim)
    await sidecar.recorded(left)
    return Round(count, time.perf_counter() - started, sidecar.cpu() - cpu)


async def sustained_round(sidecar: Sidecar, target: Target, count: int) -> Round:
    """Push, deliver and record concurrently; pushing is never far ahead."""
    requests = pushes(target.url, count)
    before = target.count
    async with Load.to(sidecar.port) as load:

        def room() -> bool:
            return load.answered - (target.count - before) < OUTSTANDING

        started, cpu = time.perf_counter(), sidecar.cpu()
        load.on_answer = target.on_request = feed = feeder(load, requests, room)
        feed()
        await target.reached(before + count)
        await load.quiet()
    target.on_request = lambda: None
    await sidecar.recorded()
    return Round(count, time.perf_counter() - started, sidecar.cpu() - cpu)
