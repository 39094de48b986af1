"""Measures how many tasks per second of a backlog are delivered and recorded."""

from __future__ import annotations

from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import push_of
from benchmarks.limits import client_round, pyreqwest_round
from benchmarks.measuring import as_part, as_rate, in_us, scaled
from benchmarks.rounds import Round, best, drain_round
from benchmarks.sidecar import IN_FLIGHT, fresh
from benchmarks.target import Target

COUNT = scaled(40_000, quick=5_000)
TIMES = scaled(3, quick=1)


async def drained() -> Round:
    """Deliver a backlog several times; return the best round."""
    rounds = []
    async with Target().listening() as target, fresh() as sidecar:
        for _ in range(TIMES):
            await sidecar.pause()
            await sidecar.push([push_of(target.url)], COUNT)
            rounds.append(await drain_round(sidecar, target, COUNT))
    return best(rounds)


async def answer() -> Answer:
    """Compare with the bare client, before and after."""
    before = await client_round(COUNT), await pyreqwest_round(COUNT)
    found = await drained()
    limit = best([before[0], await client_round(COUNT)])
    pyreqwest = best([before[1], await pyreqwest_round(COUNT)])
    part, of_pyreqwest = found.rate / limit.rate, found.rate / pyreqwest.rate
    row = [
        as_rate(found.rate), in_us(found.cpu_each), as_rate(limit.rate), in_us(limit.cpu_each),
        as_part(part),
    ]  # fmt: skip
    return Answer(
        question="drain",
        tables=[
            Table(
                "Draining a backlog",
                ["tasks/s", "CPU of the sidecar, µs a task", "bare client, calls/s",
                 "CPU of the client, µs a call", "of its rate"],
                [row],
                f"{COUNT:,} due tasks, {IN_FLIGHT} in flight; until the last outcome is on disk. "
                f"Bare pyreqwest made {as_rate(pyreqwest.rate)} calls a second, "
                f"{in_us(pyreqwest.cpu_each)} µs each; this is {as_part(of_pyreqwest)} of that.",
            )
        ],
        figures={
            "drain_rate": found.rate, "drain_of_limit": part, "drain_cpu": found.cpu_each,
            "drain_of_pyreqwest": of_pyreqwest,
        },
    )  # fmt: skip


if __name__ == "__main__":
    publish(answer())
