"""``python -m tests.simulation.day``: a day of mixed load, without growth of memory or files."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections import Counter, deque
from pathlib import Path
from random import Random

from poussetaches.core.moment import Moment
from poussetaches.core.task import Outcome
from poussetaches.engine.request import Request
from poussetaches.store.base import News
from tests.simulation.disk import Disk
from tests.simulation.history import IN_MEMORY
from tests.simulation.loop import SimulatedClock, SimulatedLoop
from tests.simulation.network import FAILURES, OK, REFUSED
from tests.simulation.server import Machine, Server

HOURS = 24
REQUEST_INTERVAL = 0.3  # seconds, on average
EDITABLE_TASKS = 1000  # the most recent ones
LONGEST_LOG = 16.0  # MiB
GROWTH = 0.1  # from the end of the first hour to that of the last
RETENTION = {
    # Seconds, so that tasks are pruned within the first hour.
    "POUSSETACHES_KEEP_SUCCEEDED_AGE": "1800",
    "POUSSETACHES_KEEP_DEAD_AGE": "1800",
    "POUSSETACHES_ORIGINAL_MAX_BACKOFF": "600",
}
# Few, since each keeps a row of statistics for each minute of the last day, by design.
QUEUES = ("default", "mail")
MIB = 1024 * 1024
Sizes = tuple[float, float, float]  # of memory, file and the file's log, in MiB


class Receivers:
    """Nine in ten answers succeed; one of the hosts is unreachable half of the time."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.attempts = 0

    async def send(self, request: Request) -> Outcome:
        """Answer."""
        self.attempts += 1
        await asyncio.sleep(self._random.random() * 0.2)
        if _is_away(request.url):
            return REFUSED
        return OK if self._random.random() < 0.9 else self._random.choice(FAILURES)

    async def probe(self, origin: str) -> Outcome | None:
        """Connect."""
        return REFUSED if _is_away(origin) else None

    async def close(self) -> None:
        """Do nothing: there are no connections."""


class NoListener:
    """Ignores all changes."""

    def committed(self, news: News) -> None:
        """Do nothing."""


async def run_day(server: Server, random: Random, path: Path, hourly: list[Sizes]) -> int:
    """Send random requests, and record the sizes of each hour; return the number of requests."""
    task_ids: deque[str] = deque(maxlen=EDITABLE_TASKS)
    loop, request_count = asyncio.get_running_loop(), 0
    started_at = loop.time()
    server.start_delivery()
    while len(hourly) < HOURS:
        await asyncio.sleep(random.expovariate(1 / REQUEST_INTERVAL))
        request_count += 1
        await _send_request(server, random, task_ids)
        if loop.time() - started_at >= 3600 * (len(hourly) + 1):
            memory, size, log = hour = _memory(), _mebibytes(path), _mebibytes(_log_of(path))
            hourly.append(hour)
            print(
                f"hour {len(hourly)}: memory {memory:.1f}, file {size:.1f}, its log {log:.1f} MiB"
            )
    await server.stop(0)
    return request_count


async def _send_request(server: Server, random: Random, task_ids: deque[str]) -> None:
    chance = random.random()
    if chance < 0.8 or not task_ids:
        answer = await server.request("POST", "/v1/tasks", _push(random))
        task_ids.append(answer.json["id"])
    elif chance < 0.9:
        what = random.choice(("requeue", "run", "cancel"))
        await server.request("POST", f"/v1/tasks/{random.choice(task_ids)}/{what}", None)
    elif chance < 0.95:
        await server.request("DELETE", f"/v1/tasks/{random.choice(task_ids)}", None)
    else:
        path = random.choice(("/v1/tasks", "/v1/stats", "/v1/failures", "/metrics"))
        await server.request("GET", path, None)


def _push(random: Random) -> dict[str, object]:
    return {
        "url": f"http://{random.choice(('app', 'shop', 'away'))}.test/{random.randint(0, 9)}",
        "queue": random.choice(QUEUES),
        "json": "x" * random.randint(0, 2000),
        "delay": random.choice((0, 0, 1.5, 600)),
        "retry": {"max_attempts": 5, "max_backoff": 600},
    }


def _is_away(url: str) -> bool:
    return "away" in url and asyncio.get_running_loop().time() % 1800 < 900


def _memory() -> float:
    """Return the resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _mebibytes(path: Path) -> float:
    return path.stat().st_size / MIB


def main() -> int:
    """Simulate a day; return 1 if memory or files have grown."""
    logging.disable()
    random, hourly = Random(1), list[Sizes]()
    place = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="poussetaches-", dir=place) as folder:
        path = Path(folder) / "tasks.db"
        loop = SimulatedLoop(started_at=0.0)
        receivers = Receivers(random)
        machine = Machine(path, Disk(Counter()), receivers, RETENTION)

        async def day() -> int:
            clock = SimulatedClock(Moment(1_790_000_000_000_000), loop)
            server = await Server.started(
                machine, clock=clock, random=random, listener=NoListener()
            )
            return await run_day(server, random, path, hourly)

        request_count = loop.run_until_complete(day())
        loop.close()
    print(f"{HOURS} hours, {request_count:,} requests, {receivers.attempts:,} attempts")
    memory, size, _ = (last / first for first, last in zip(hourly[0], hourly[-1], strict=True))
    print(f"memory {memory:.2f} and file {size:.2f} times the sizes after the first hour")
    # The log never shrinks, so it is not counted with the file, and has a limit.
    has_grown = max(memory, size) > 1 + GROWTH or hourly[-1][2] > LONGEST_LOG
    return int(has_grown)


if __name__ == "__main__":
    sys.exit(main())
