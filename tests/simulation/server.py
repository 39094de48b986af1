"""A simulated server, on a database that outlives it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from poussetaches.engine.sender import Sender
from poussetaches.engine.stats import Stats
from poussetaches.server.parts import Parts
from poussetaches.settings import load_settings
from poussetaches.store.base import Listener
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.transaction import RowFault
from tests.integration.asgi import Answered, request
from tests.simulation.disk import Disk, SimulatedReserve, SimulatedRunner
from tests.simulation.ledger import Row
from tests.simulation.loop import SimulatedClock

ROWS = "SELECT id, queue, state, reason, run_at, forced, round, attempt_count, ended_at FROM tasks"

PUSHES = "SELECT value FROM labels WHERE name = 'push'"


@dataclass(frozen=True)
class Machine:
    """The parts that outlive a server: disk, network and settings."""

    path: Path
    disk: Disk
    network: Sender
    settings: dict[str, str]
    row_fault: RowFault | None = None


class Server:
    """A server that runs until it is stopped or killed."""

    def __init__(self, machine: Machine, store: SqliteStore, parts: Parts) -> None:
        self.store = store
        self.engine = parts.engine
        self._parts = parts
        self._reader = sqlite3.connect(
            f"{machine.path.as_uri()}?mode=ro", uri=True, isolation_level=None
        )

    @classmethod
    async def started(
        cls, machine: Machine, *, clock: SimulatedClock, random: Random, listener: Listener
    ) -> Server:
        """Start a server on the machine's disk."""
        store = SqliteStore(
            machine.path,
            writer=SimulatedRunner(random),
            reader=SimulatedRunner(random),
            now=clock.now,
            random=random,
            commit=machine.disk.commit,
            reserve=SimulatedReserve(machine.disk),
            row_fault=machine.row_fault,
        )
        await store.open()
        stats = Stats(store=store, clock=clock, random=random)
        parts = Parts(
            store,
            load_settings({}, machine.settings, None),
            clock=clock,
            random=random,
            stats=stats,
            observer=stats,
            sender=machine.network,
        )
        await parts.load()
        store.listen(listener)
        return cls(machine, store, parts)

    def start_delivery(self) -> None:
        """Start to send attempts."""
        self._parts.start()

    @property
    def pruned(self) -> int:
        """The number of ended tasks that were pruned since the start."""
        return self.engine.maintenance.pruned.total()

    async def request(self, method: str, path: str, body: object) -> Answered:
        """Send a request to the API."""
        return await request(self._parts.app, method, path, body)

    async def stop(self, drain_timeout: float) -> None:
        """Stop as after SIGTERM."""
        await self._parts.drain(drain_timeout)
        await self._parts.end_requests()
        await self._parts.close()
        self._reader.close()
        await self.store.close()

    async def release(self) -> None:
        """Release the resources of a server that was killed."""
        self._reader.close()
        with suppress(Exception):
            await self.store.close()

    def row(self, task_id: str) -> Row | None:
        """Return a task as it is on disk."""
        found = self._reader.execute(f"{ROWS} WHERE id = ?", (task_id,)).fetchone()
        return None if found is None else Row(*found)

    def rows(self) -> list[Row]:
        """Return all tasks as they are on disk."""
        return [Row(*found) for found in self._reader.execute(f"{ROWS} ORDER BY seq")]

    def pushes(self) -> set[str]:
        """Return the labels of the pushes that are on disk."""
        return {str(label) for (label,) in self.query(PUSHES)}

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Run a query on the database file, beside the server."""
        return self._reader.execute(statement).fetchall()


class LogHandler(logging.Handler):
    """Passes each record of the server's log to a function."""

    def __init__(self, handle: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(logging.INFO)
        self._handle = handle

    def emit(self, record: logging.LogRecord) -> None:
        self._handle(record)


async def cancel_other_tasks() -> None:
    """Cancel all tasks of a server that was killed."""
    for _ in range(10):
        await asyncio.sleep(0)  # a task can clean up only if it has started
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            return
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=60)
