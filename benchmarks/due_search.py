"""Measures the search for due tasks, with a million delayed tasks and with a dead host."""

from __future__ import annotations

from random import Random

from benchmarks.answers import Answer, Table, publish
from benchmarks.filling import BATCH, make_task, now, opened
from benchmarks.measuring import high, middle, scaled, timed
from benchmarks.sidecar import on_disk
from poussetaches.core.cause import Cause
from poussetaches.core.task import Outcome
from poussetaches.engine.clock import SystemClock
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.request import Request
from poussetaches.store.base import Push, Store

DELAYED = scaled(1_000_000, quick=30_000)
HELD = scaled(100_000, quick=10_000)
HELD_ORIGIN = "http://away.test:80"
TIMES = scaled(500, quick=100)


class NoSender:
    """Sends nothing: only finding due tasks is measured."""

    async def send(self, request: Request) -> Outcome:
        """Raise: no attempt is made."""
        raise AssertionError(request.url)

    async def probe(self, origin: str) -> Outcome | None:
        """Return that the origin is unreachable."""
        return Outcome(error="away", cause=Cause.NOT_CONNECTED)

    async def close(self) -> None:
        """Do nothing: there are no connections."""


async def fill(store: Store) -> None:
    """Add delayed tasks of the highest priority, and due tasks of an unreachable origin."""
    random = Random(1)
    for _ in range(0, DELAYED, BATCH):
        delayed = [make_task(random, priority=100) for _ in range(BATCH)]
        await store.push([Push(task=task) for task in delayed], now=now())
    for _ in range(0, HELD, BATCH):
        due = now()
        held = [
            make_task(random, url=f"{HELD_ORIGIN}/", run_at=due, due_at=due) for _ in range(BATCH)
        ]
        await store.push([Push(task=task) for task in held], now=due)


async def search(engine: Engine, store: Store) -> None:
    """Lease the only task that may start, and put it back."""
    wanted = engine.lanes.startable(64)
    engine.lanes.begin_lookup(wanted)
    leased = await store.lease_due(wanted, now=now())
    assert len(leased.leases) == 1, leased
    for lane, next_due in leased.next_due.items():
        engine.lanes.end_lookup(lane, next_due)
    await store.give_back(leased.leases[0], now=now())


async def search_times(store: Store) -> list[float]:
    """Return the times of finding the only due task that no limit delays."""
    engine = Engine(
        store=store,
        sender=NoSender(),
        clock=SystemClock(),
        random=Random(1),
        config=EngineConfig(),
    )
    engine.origins.refused(HELD_ORIGIN, "away", 0.0)
    await engine.load()
    return await timed(lambda: search(engine, store), times=TIMES)


async def answer() -> Answer:
    """Compare an empty store with a crowded one."""
    rows = []
    with on_disk() as folder:
        for name, crowded in (("nothing", False), (f"{DELAYED + HELD:,} tasks", True)):
            async with opened(folder / f"{crowded}.db") as store:
                if crowded:
                    await fill(store)
                due = now()
                task = make_task(Random(3), run_at=due, due_at=due)
                await store.add(task)
                times = await search_times(store)
                rows.append([name, middle(times), high(times)])
    rows.append(["ratio", f"{float(rows[1][1]) / float(rows[0][1]):.2f}", ""])
    note = "In front of it are delayed tasks of the highest priority, and those of a dead host."
    table = Table(
        "Looking for one due task, in the store", ["in front of it", "median, ms", "p95, ms"],
        rows, note,
    )  # fmt: skip
    return Answer(question="due_search", tables=[table])


if __name__ == "__main__":
    publish(answer())
