"""The whole service on a store in a file; a test controls its clock, network and loops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from poussetaches.api.app import App
from poussetaches.engine.driver import AttemptCount, Driver
from poussetaches.engine.queue_registry import Queues
from poussetaches.engine.stats import Stats
from poussetaches.server.parts import Parts
from poussetaches.settings import load_settings
from poussetaches.store.runner import Runner
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.transaction import RowFault
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.store.sqlite_files import Disk, inline_store


class Service:
    """A service without running loops."""

    def __init__(self, store: SqliteStore, parts: Parts, driver: Driver) -> None:
        self._store = store
        self._parts = parts
        self._driver = driver

    @classmethod
    async def opened(
        cls,
        path: Path | None,
        *,
        clock: FakeClock,
        sender: ScriptedSender,
        random: Random,
        disk: Disk | None = None,
        writer: Runner | None = None,
        row_fault: RowFault | None = None,
        reader: Runner | None = None,
        **env: str,
    ) -> Service:
        """Open the service on a new or existing file; ``env`` is its environment."""
        store = inline_store(path, disk=disk, writer=writer, reader=reader, row_fault=row_fault)
        await store.open()
        stats = Stats(store=store, clock=clock, random=random)
        attempts = AttemptCount(stats)
        parts = Parts(
            store,
            load_settings({}, env, None),
            clock=clock,
            random=random,
            stats=stats,
            observer=attempts,
            sender=sender,
        )
        await parts.load()
        driver = Driver(
            engine=parts.engine, store=store, clock=clock, attempts=attempts, chores=parts.chores
        )
        return cls(store, parts, driver)

    @property
    def app(self) -> App:
        """The application."""
        return self._parts.app

    @property
    def queues(self) -> Queues:
        """The engine's queues."""
        return self._parts.engine.queues

    async def advance(self, seconds: float) -> None:
        """Advance the time from one due moment to the next, and run the work due at each."""
        await self._driver.advance(seconds)

    async def drain(self) -> None:
        """Start no more attempts."""
        await self._parts.drain(0)

    async def end_requests(self) -> None:
        """End long requests."""
        await self._parts.end_requests()

    async def die(self) -> None:
        """End the service as a crash does, without the writes of a stop."""
        await self._store.close()

    async def close(self) -> None:
        """Stop the service."""
        await self.drain()
        await self.end_requests()
        await self._parts.close()
        await self._store.close()


@asynccontextmanager
async def running(path: Path, clock: FakeClock, sender: ScriptedSender) -> AsyncIterator[Service]:
    """Run a service that has read its clock once."""
    service = await Service.opened(path, clock=clock, sender=sender, random=seeded())
    await service.advance(0)
    try:
        yield service
    finally:
        sender.hangs_no_more()
        await service.close()
