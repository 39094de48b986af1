from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

from poussetaches.store.runner import ThreadRunner
from poussetaches.store.sqlite import SqliteStore
from tests.factories import NOW, make_task, seeded


async def test_shrinking_does_not_wait_for_the_load_to_end(tmp_path: Path) -> None:
    store = SqliteStore(
        tmp_path / "tasks.db",
        writer=ThreadRunner("writer"),
        reader=ThreadRunner("reader"),
        now=lambda: NOW,
        random=seeded(),
        window=0.002,
    )
    await store.open()
    numbers = count()
    under_load = asyncio.Event()
    stopping = False

    async def push() -> None:
        while not stopping:
            number = next(numbers)
            await store.add(make_task(str(number)))
            if number > 100:
                under_load.set()

    async def keep_busy() -> None:
        await asyncio.gather(*(push() for _ in range(16)))

    load = asyncio.create_task(keep_busy())
    try:
        await under_load.wait()

        async with asyncio.timeout(20):
            await store.shrink()
    finally:
        stopping = True
        await load
        await store.close()
