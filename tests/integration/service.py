"""The whole service on a store in a file, in a test's hands: its clock, its network, its turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from starlette.types import ASGIApp

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
    """A service that does nothing by itself."""

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
        """Open the service on a file, new or known; ``env`` is its environment."""
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
    def app(self) -> ASGIApp:
        """What answers requests."""
        return self._parts.app

    @property
    def queues(self) -> Queues:
        """The queues as the engine knows them."""
        return self._parts.engine.queues

    async def advance(self, seconds: float) -> None:
        """Let time pass, from one due moment to the next, and do what is due at each."""
        await self._driver.advance(seconds)

    async def drain(self) -> None:
        """Start no more attempts."""
        await self._parts.drain(0)

    async def end_requests(self) -> None:
        """End the requests that could go on for long."""
        await self._parts.end_requests()

    async def die(self) -> None:
        """End it as a crash does: nothing that it would write at a stop is written."""
        await self._store.close()

    async def close(self) -> None:
        """End it as a stop does."""
        await self.drain()
        await self.end_requests()
        await self._parts.close()
        await self._store.close()


@asynccontextmanager
async def running(path: Path, clock: FakeClock, sender: ScriptedSender) -> AsyncIterator[Service]:
    """Run a service that has looked at its clock once."""
    service = await Service.opened(path, clock=clock, sender=sender, random=seeded())
    await service.advance(0)
    try:
        yield service
    finally:
        sender.hangs_no_more()
        await service.close()
