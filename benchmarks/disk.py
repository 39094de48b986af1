"""Measures the disk space of the store after a million tasks were pushed and delivered."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.answers import Answer, Table, publish
from benchmarks.bodies import push_of
from benchmarks.measuring import as_rate, scaled
from benchmarks.sidecar import on_disk, serving
from benchmarks.target import Target

COUNT = scaled(1_000_000, quick=20_000)
CHUNK = scaled(50_000, quick=5_000)
MAINTENANCE = scaled(65.0, quick=0.0)  # seconds in which the server's maintenance runs once


def held(folder: Path) -> tuple[float, float]:
    """Return the megabytes of a store on disk, and those of its free pages."""
    size = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    with closing(sqlite3.connect(f"file:{folder / 'tasks.db'}?mode=ro", uri=True)) as connection:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        (page,) = connection.execute("PRAGMA page_size").fetchone()
    return size / 1e6, free * page / 1e6


async def answer() -> Answer:
    """Push and deliver in chunks, then wait for the maintenance."""
    rows = []

    def note(name: str) -> float:
        size, free = held(data)
        rows.append([name, as_rate(size), as_rate(free)])
        return size

    with on_disk() as folder:
        data = folder / "data"
        async with Target().listening() as target, serving(data) as sidecar:
            note("before")
            sizes = []
            for _ in range(0, COUNT, CHUNK):
                await sidecar.push([push_of(target.url)], CHUNK)
                await sidecar.recorded(CHUNK // 2)
                sizes.append(held(data)[0])
            await sidecar.recorded()
            rows.append(["most, meanwhile", as_rate(max(sizes)), ""])
            note("after the last task")
            await asyncio.sleep(MAINTENANCE)
            after = note(f"{MAINTENANCE:.0f} s later")
        note("after a stop")
    text = f"{COUNT:,} tasks of 200 bytes; the last 10,000 that succeeded are kept."
    head = ["", "on disk, MB", "of them free pages, MB"]
    return Answer(
        question="disk",
        tables=[Table("Disk, after many tasks came and went", head, rows, text)],
        figures={"disk_most": max(sizes), "disk_after": after},
    )


if __name__ == "__main__":
    publish(answer())
