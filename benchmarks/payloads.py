"""Measures pushes and deliveries of large bodies."""

from __future__ import annotations

from itertools import repeat

from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import push_of
from benchmarks.load import request_of
from benchmarks.measuring import as_rate, in_us, scaled
from benchmarks.rounds import drain_round, push_round
from benchmarks.sidecar import fresh
from benchmarks.target import Target

# Bytes of a body, and the number of tasks.
SIZES = {
    100: scaled(20_000, quick=2_000),
    10_000: scaled(10_000, quick=1_000),
    500_000: scaled(400, quick=64),
}
BATCH = 100


async def answer() -> Answer:
    """Push and drain with bodies of each size."""
    rows = []
    for size, count in SIZES.items():
        body = b'"' + b"x" * (size - 2) + b'"'
        async with Target().listening() as target, fresh("--start-paused") as sidecar:
            request = request_of(push_of(target.url, body))
            pushed = await push_round(sidecar, repeat(request, count), count)
            drained = await drain_round(sidecar, target, count)
        rows.append(
            [f"{size:,} bytes"]
            + [
                text
                for found in (pushed, drained)
                for text in (
                    as_rate(found.rate), in_us(found.cpu_each), f"{found.rate * size / 1e6:,.1f}"
                )
            ]
        )  # fmt: skip
    head = ["body", "push, tasks/s", "CPU, µs", "MB/s", "drain, tasks/s", "CPU, µs", "MB/s"]
    return Answer(question="payloads", tables=[Table("Large bodies", head, rows)])


if __name__ == "__main__":
    publish(answer())
