"""Measures how many tasks per second are pushed, delivered and recorded concurrently."""

from __future__ import annotations

from benchmarks.answers import Answer, Table, publish
from benchmarks.limits import client_round, combined, row_rates, server_round
from benchmarks.measuring import as_part, as_rate, in_us, scaled
from benchmarks.rounds import OUTSTANDING, Round, best, sustained_round
from benchmarks.sidecar import fresh
from benchmarks.target import Target

COUNT = scaled(50_000, quick=5_000)
CALLS = scaled(40_000, quick=5_000)
TIMES = scaled(3, quick=1)


async def sustained(times: int = TIMES) -> Round:
    """Push, deliver and record in several rounds; return the best."""
    async with Target().listening() as target, fresh() as sidecar:
        rounds = [await sustained_round(sidecar, target, COUNT) for _ in range(times)]
    return best(rounds)


async def answer() -> Answer:
    """Compare with the limit of the three bare parts together."""
    server, client = (await server_round(CALLS)).rate, (await client_round(CALLS)).rate
    added, ended = row_rates()
    limit = combined(server, client, added, ended)
    found = await sustained()
    part = found.rate / limit
    row = [as_rate(found.rate), in_us(found.cpu_each), as_rate(limit), as_part(part)]
    costs = " + ".join(in_us(1 / rate) for rate in (server, client, added, ended))
    return Answer(
        question="sustained",
        tables=[
            Table(
                "Pushing, delivering and recording at once",
                ["tasks/s", "CPU of the sidecar, µs a task", "limit, a second", "of the limit"],
                [row],
                f"The limit is one core for {costs} µs: bare server, bare client, a row added, a "
                f"row ended. Pushing waits when {OUTSTANDING:,} tasks are not delivered yet.",
            )
        ],
        figures={
            "sustained_rate": found.rate,
            "sustained_of_limit": part,
            "sustained_cpu": found.cpu_each,
            "sustained_limit": limit,
        },
    )


if __name__ == "__main__":
    publish(answer())
