"""Stores with many tasks, like those of a server that has run for a while."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from benchmarks.bodies import BODY
from poussetaches.core.ids import new_task_id
from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.task import Reason, Task, TaskState
from poussetaches.store.base import Push, Store
from poussetaches.store.runner import ThreadRunner
from poussetaches.store.sqlite import SqliteStore

BATCH = 10_000
APPLICATION = "http://app.test:5000"


def now() -> Moment:
    """Return the wall clock's time."""
    return Moment(time.time_ns() // 1000)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    """Open a store as the server does."""
    store = SqliteStore(
        path,
        writer=ThreadRunner("store-writer"),
        reader=ThreadRunner("store-reader"),
        now=now,
        random=Random(),
    )
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def make_task(random: Random, **fields: object) -> Task:
    """Return a task of 200 bytes that is delayed by an hour; fields override it."""
    moment = now()
    later = Moment(moment + HOUR)
    task = {
        "id": new_task_id(moment, random),
        "url": f"{APPLICATION}/tasks/work",
        "body": BODY,
        "created_at": moment,
        "run_at": later,
        "due_at": later,
    }
    return Task(**{**task, **fields})  # type: ignore[arg-type]  # fields by name


async def fill(store: Store, count: int) -> None:
    """Add tasks: seven of ten waiting, two succeeded, one dead; some with labels."""
    random = Random(1)
    for start in range(0, count, BATCH):
        tasks = [_mixed(random, n) for n in range(start, min(count, start + BATCH))]
        waiting = [task for task in tasks if task.state is TaskState.WAITING]
        await store.push([Push(task=task) for task in waiting], now=now())
        await store.restore([(task, []) for task in tasks if task.state is not TaskState.WAITING])


def _mixed(random: Random, number: int) -> Task:
    fields: dict[str, object] = {}
    if number % 10 == 0:
        fields = {"state": TaskState.DEAD, "reason": Reason.EXHAUSTED, "queue": "mail",
                  "ended_at": now(), "last_status": 500, "last_error": "went wrong"}  # fmt: skip
    elif number % 10 in (1, 2):
        fields = {"state": TaskState.SUCCEEDED, "ended_at": now(), "last_status": 200}
    if number % 5 == 3:
        fields["labels"] = {"customer": str(random.randrange(2))}
    return make_task(random, **fields)
