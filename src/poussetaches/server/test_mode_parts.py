"""Test mode: everything in memory, on a virtual clock, and replaced by a reset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from poussetaches.api.app import App
from poussetaches.api.direct_push import DirectPushes
from poussetaches.core.moment import Moment
from poussetaches.engine.clock import SystemClock
from poussetaches.engine.driver import AttemptCount, Driver
from poussetaches.engine.engine import Engine
from poussetaches.engine.sender import Sender
from poussetaches.engine.stats import Stats
from poussetaches.engine.virtual_clock import VirtualClock
from poussetaches.server.descriptors import Descriptors
from poussetaches.server.parts import Parts
from poussetaches.settings import Settings
from poussetaches.store import open_memory_store
from poussetaches.store.base import Store


class World(NamedTuple):
    """All that a reset replaces."""

    store: Store
    clock: VirtualClock
    parts: Parts
    driver: Driver


class CurrentApp:
    """The API of the current world."""

    def __init__(self, current: Callable[[], App]) -> None:
        self._current = current

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._current()(scope, receive, send)

    @property
    def pushes(self) -> DirectPushes:
        """The endpoints that answer pushes without ASGI."""
        return self._current().pushes


class TestModeServer:
    """Serves a world in which nothing happens by itself; without a sender, over HTTP.

    A reset replaces all of it, so that no part keeps any state. With a ``seed``, every world draws
    the same random numbers.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        descriptors: Descriptors | None = None,
        sender: Sender | None = None,
        seed: int | None = None,
    ) -> None:
        # Alerts use real time.
        self._settings = replace(settings, logging=replace(settings.logging, alert_url=None))
        self._descriptors = descriptors
        self._sender = sender
        self._seed = seed
        self._call = asyncio.Lock()  # held by the current call; others wait
        self._world: World
        self.app = CurrentApp(lambda: self._world.parts.app)  # also after a reset

    async def open(self) -> None:
        """Create the first world."""
        self._world = await self._new_world()

    @property
    def engine(self) -> Engine:
        """The engine of the current world."""
        return self._world.parts.engine

    def now(self) -> Moment:
        """Return the virtual time."""
        return self._world.clock.now()

    async def run_until_idle(self) -> int:
        """Run due tasks, and tasks that they push; return the number of attempts."""
        async with self._call:
            return await self._world.driver.run_until_idle()

    async def advance(self, seconds: float) -> int:
        """Advance the time, and run tasks as they become due; return the number of attempts."""
        async with self._call:
            return await self._world.driver.advance(seconds)

    async def reset(self) -> None:
        """Replace the world by an empty one."""
        async with self._call:
            await _end(self._world)
            self._world = await self._new_world()

    def start(self) -> None:
        """Do nothing: nothing happens by itself."""

    async def drain(self, limit: float) -> None:
        """Start no more attempts. The limit is ignored, because no time passes."""
        await self._world.parts.drain(0)

    async def end_requests(self) -> None:
        """End long requests: bulk edits, waits and event streams."""
        await self._world.parts.end_requests()

    async def close(self) -> None:
        """Close the current world."""
        await _end(self._world)

    async def _new_world(self) -> World:
        clock = VirtualClock(SystemClock().now())
        random = Random(self._seed)  # noqa: S311 - no secrets
        store = await open_memory_store(now=clock.now, random=random)
        await store.set_paused(self._settings.delivery.start_paused)
        stats = Stats(store=store, clock=clock, random=random)
        attempts = AttemptCount(stats)
        parts = Parts(
            store,
            self._settings,
            descriptors=self._descriptors,
            clock=clock,
            random=random,
            stats=stats,
            observer=attempts,
            sender=self._sender,
            test_mode=self,
        )
        await parts.load()
        driver = Driver(
            engine=parts.engine, store=store, clock=clock, attempts=attempts, chores=parts.chores
        )
        return World(store, clock, parts, driver)


async def _end(world: World) -> None:
    await world.parts.drain(0)
    await world.parts.end_requests()
    await world.parts.close()
    await world.store.close()
