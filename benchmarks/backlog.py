"""Measures pushes, deliveries, memory and the start with a backlog of up to a million tasks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import push_of, pushes
from benchmarks.measuring import as_rate, in_us, scaled
from benchmarks.rounds import Round, best, drain_round, push_round
from benchmarks.sidecar import Sidecar, on_disk, serving
from benchmarks.target import Target

SIZES = (0, 1_000, 10_000, 100_000, *scaled((1_000_000,), quick=()))
COUNT = scaled(20_000, quick=4_000)
TIMES = 2
DAYS = 3 * 86_400  # seconds
PAUSED_QUEUE = "held"  # a paused queue: its tasks are due, but wait


@dataclass(frozen=True)
class Cost:
    """The costs of a backlog of one size."""

    size: int
    push: Round
    drain: Round
    memory: float
    first_answer: float
    first_delivery: float

    def row(self) -> list[str]:
        """Return it as a table's row."""
        return [
            f"{self.size:,}", as_rate(self.push.rate), in_us(self.push.cpu_each),
            as_rate(self.drain.rate), in_us(self.drain.cpu_each), f"{self.memory:.0f}",
            f"{self.first_answer:.2f}", f"{self.first_delivery:.2f}",
        ]  # fmt: skip


HEAD = ["waiting", "push, tasks/s", "CPU, µs", "drain, tasks/s", "CPU, µs", "memory, MB",
        "first answer, s", "first delivery, s"]  # fmt: skip


async def cost(folder: Path, target: Target, *, size: int, before: int) -> Cost:
    """Fill the backlog to a size, and measure."""
    total = target.count + TIMES * COUNT
    async with serving(folder, "--start-paused") as sidecar:
        await fill(sidecar, target, size - before)
        rounds = [
            await push_round(sidecar, pushes(target.url, COUNT), COUNT) for _ in range(TIMES)
        ]
        await sidecar.resume()  # the pause is stored; almost nothing is delivered before the end
    started, delivered = time.perf_counter(), target.count
    async with serving(folder) as sidecar:
        first_answer = time.perf_counter() - started
        await target.reached(delivered + 1)
        first_delivery = target.last_at - started
        drained = await drain_round(sidecar, target, total - target.count, left=size)
        memory = sidecar.memory()
    return Cost(size, best(rounds), drained, memory, first_answer, first_delivery)


async def fill(sidecar: Sidecar, target: Target, count: int) -> None:
    """Push tasks that stay: half are delayed for days, half are due in a paused queue."""
    await sidecar.ask("PUT", f"/v1/queues/{PAUSED_QUEUE}", b"{}")
    await sidecar.ask("POST", f"/v1/queues/{PAUSED_QUEUE}/pause")
    delayed, held = push_of(target.url, delay=DAYS), push_of(target.url, queue=PAUSED_QUEUE)
    await sidecar.push([delayed, held], count)


async def answer() -> Answer:
    """Measure with growing backlogs."""
    costs: list[Cost] = []
    with on_disk() as folder:
        async with Target().listening() as target:
            for size in SIZES:
                before = costs[-1].size if costs else 0
                costs.append(await cost(folder / "data", target, size=size, before=before))
    none, most = costs[0], costs[-1]
    note = (
        "One half of the backlog is delayed for days, the other is due in a paused queue. "
        f"{TIMES * COUNT:,} more tasks of 200 bytes are pushed and drained. Memory is that of a "
        "server that was started with the backlog and has drained. Seconds are counted from the "
        "start of the process."
    )
    return Answer(
        question="backlog",
        tables=[Table("A growing backlog", HEAD, [found.row() for found in costs], note)],
        figures={
            "backlog_push_kept": most.push.rate / none.push.rate,
            "backlog_push_cpu_kept": none.push.cpu_each / most.push.cpu_each,
            "backlog_drain_kept": most.drain.rate / none.drain.rate,
            "backlog_memory": most.memory,
            "backlog_first_answer": most.first_answer,
            "backlog_first_delivery": most.first_delivery,
            "backlog_largest": most.size,
        },
        series={
            "size": [found.size for found in costs],
            "push": [found.push.rate for found in costs],
            "drain": [found.drain.rate for found in costs],
            "memory": [found.memory for found in costs],
            "first_answer": [found.first_answer for found in costs],
            "first_delivery": [found.first_delivery for found in costs],
        },
    )


if __name__ == "__main__":
    publish(answer())
