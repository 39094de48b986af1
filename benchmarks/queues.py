"""Measures the same tasks spread over 1, 100 and 10,000 queues."""

from __future__ import annotations

from itertools import cycle, islice

from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import push_of
from benchmarks.load import request_of
from benchmarks.measuring import as_part, as_rate, in_us, scaled
from benchmarks.rounds import Round, best, drain_round, push_round
from benchmarks.sidecar import IN_FLIGHT, fresh
from benchmarks.target import Target

SIZES = (1, 100, scaled(10_000, quick=1_000))
COUNT = scaled(30_000, quick=4_000)
FLAGS = ("--start-paused", "--max-in-flight", str(IN_FLIGHT))
TIMES = scaled(2, quick=1)


async def spread(queues: int) -> tuple[Round, Round]:
    """Push to this many queues, and drain them; return the best round of each."""
    pushed, drained = [], []
    async with Target().listening() as target, fresh(*FLAGS) as sidecar:
        tasks = [push_of(target.url, queue=f"queue-{number}") for number in range(queues)]
        await sidecar.push(tasks, queues)  # creates the queues
        await drain_round(sidecar, target, queues)
        await sidecar.pause()
        requests = cycle([request_of(task) for task in tasks])
        for _ in range(TIMES):
            pushed.append(await push_round(sidecar, islice(requests, COUNT), COUNT))
            drained.append(await drain_round(sidecar, target, COUNT))
            await sidecar.pause()
    return best(pushed), best(drained)


async def answer() -> Answer:
    """Compare with one queue."""
    found = {size: await spread(size) for size in SIZES}
    push_one, drain_one = found[1]
    rows = [
        [
            f"{size:,}",
            as_rate(push.rate), in_us(push.cpu_each), as_part(push.rate / push_one.rate),
            as_rate(drain.rate), in_us(drain.cpu_each), as_part(drain.rate / drain_one.rate),
        ]
        for size, (push, drain) in found.items()
    ]  # fmt: skip
    head = ["queues", "push, tasks/s", "CPU, µs", "of one queue", "drain, tasks/s", "CPU, µs",
            "of one queue"]  # fmt: skip
    push_most, drain_most = found[SIZES[-1]]
    return Answer(
        question="queues",
        tables=[Table("Many queues", head, rows, f"{IN_FLIGHT} in flight over all queues.")],
        figures={
            "queues_push_kept": push_most.rate / push_one.rate,
            "queues_drain_kept": drain_most.rate / drain_one.rate,
            "queues_push_kept_100": found[100][0].rate / push_one.rate,
            "queues_drain_kept_100": found[100][1].rate / drain_one.rate,
        },
        series={
            "size": [float(size) for size in found],
            "push": [push.rate for push, _ in found.values()],
            "drain": [drain.rate for _, drain in found.values()],
        },
    )


if __name__ == "__main__":
    publish(answer())
