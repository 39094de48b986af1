"""Measures pages of lists with a million tasks, and pushes while lists are read."""

from __future__ import annotations

import asyncio
from random import Random

from benchmarks.answers import Answer, Table, publish
from benchmarks.filling import fill, make_task, opened
from benchmarks.measuring import high, middle, scaled, timed
from benchmarks.sidecar import on_disk
from poussetaches.core.filter import TaskFilter
from poussetaches.core.task import TaskState
from poussetaches.store.base import Store

SIZES = (1_000, scaled(1_000_000, quick=30_000))
LIMIT = 100
TIMES = scaled(200, quick=50)
PUSHES = scaled(1_000, quick=200)

FILTERS = {
    "all": TaskFilter(),
    "state=dead": TaskFilter(states=frozenset({TaskState.DEAD})),
    "queue=default, state=waiting": TaskFilter(
        queue="default", states=frozenset({TaskState.WAITING})
    ),
    "label=customer:1": TaskFilter(labels=(("customer", "1"),)),
    "text=wrong": TaskFilter(text="wrong"),
}


async def pages_of(store: Store, filter: TaskFilter) -> list[float]:
    """Return the times of the first page of a list."""
    return await timed(lambda: store.tasks(filter, after=None, limit=LIMIT), times=TIMES)


async def pushes(store: Store, *, while_listing: bool) -> list[float]:
    """Return the times of pushes, alone or while lists are read continuously."""
    random = Random(2)

    async def list_continuously() -> None:
        after = None
        while True:
            after = (await store.tasks(TaskFilter(text="no such"), after=after, limit=100)).after

    listing = asyncio.create_task(list_continuously()) if while_listing else None
    found = await timed(lambda: store.add(make_task(random)), times=PUSHES)
    if listing is not None:
        listing.cancel()
    return found


async def answer() -> Answer:
    """Fill a small and a large store, and compare."""
    columns: dict[str, list[str]] = {name: [] for name in FILTERS}
    alone: list[float] = []
    beside: list[float] = []
    with on_disk() as folder:
        for size in SIZES:
            async with opened(folder / f"{size}.db") as store:
                await fill(store, size)
                for name, filter in FILTERS.items():
                    columns[name].append(middle(await pages_of(store, filter)))
                alone = await pushes(store, while_listing=False)
                beside = await pushes(store, while_listing=True)
    head = ["page of 100", *(f"{size:,} tasks, ms" for size in SIZES), "ratio"]
    rows = [
        [name, *times, f"{float(times[1]) / float(times[0]):.2f}"]
        for name, times in columns.items()
    ]
    pushed = [
        ["alone", middle(alone), high(alone)],
        ["while listing", middle(beside), high(beside)],
    ]
    return Answer(
        question="listing",
        tables=[
            Table("Listing, in the store", head, rows),
            Table(f"A push into {SIZES[-1]:,} tasks", ["", "median, ms", "p95, ms"], pushed),
        ],
    )


if __name__ == "__main__":
    publish(answer())
