"""Measures the memory and CPU time of an idle server."""

from __future__ import annotations

import asyncio

from benchmarks import machine
from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import push_of
from benchmarks.measuring import scaled
from benchmarks.sidecar import Sidecar, fresh

REST = scaled(5, quick=1)  # seconds until it is idle
SECONDS = scaled(20, quick=4)
DELAYED = scaled(100_000, quick=10_000)
DAYS = 3 * 86_400  # seconds
URL = "http://127.0.0.1:9/tasks/work"


async def resting(sidecar: Sidecar) -> tuple[float, float, float]:
    """Return CPU time and wake-ups per second, and the memory."""
    await asyncio.sleep(REST)
    cpu, wake_ups = sidecar.cpu(), machine.wake_ups(sidecar.process)
    await asyncio.sleep(SECONDS)
    woken = machine.wake_ups(sidecar.process) - wake_ups
    return (sidecar.cpu() - cpu) / SECONDS, woken / SECONDS, sidecar.memory()


async def answer() -> Answer:
    """Measure an empty server, and one with delayed tasks."""
    async with fresh() as sidecar:
        empty = await resting(sidecar)
        await sidecar.push([push_of(URL, delay=DAYS)], DELAYED)
        delayed = await resting(sidecar)
    rows = [
        [name, f"{cpu:.2%}", f"{woken:.1f}", f"{memory:.0f}"]
        for name, (cpu, woken, memory) in {
            "no tasks": empty,
            f"{DELAYED:,} tasks, delayed for days, just pushed": delayed,
        }.items()
    ]
    head = ["", "of a core", "wake-ups a second", "memory, MB"]
    return Answer(
        question="idle",
        tables=[Table("An idle sidecar", head, rows)],
        figures={"idle_cpu": empty[0], "idle_wake_ups": empty[1], "idle_memory": empty[2]},
    )


if __name__ == "__main__":
    publish(answer())
