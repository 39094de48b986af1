"""Test mode: everything in memory, on a virtual clock, and replaced by a reset."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from poussetaches.core.moment import Moment
from poussetaches.engine.clock import SystemClock
from poussetaches.engine.driver import AttemptCount, Driver
from poussetaches.engine.queues import Queues
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


class TestModeServer:
    """Serves a world in which nothing happens by itself; without a sender, over HTTP.

    A reset builds all of it anew, so that nothing any part remembers can be left over. With a
    ``seed``, chance is the same in every world.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        descriptors: Descriptors | None = None,
        sender: Sender | None = None,
        seed: int | None = None,
    ) -> None:
        # Alerts go by real time.
        self._settings = replace(settings, logging=replace(settings.logging, alert_url=None))
        self._descriptors = descriptors
        self._sender = sender
        self._seed = seed
        self._call = asyncio.Lock()  # held by the call under way; the others wait
        self._world: World

    async def open(self) -> None:
        """Make the first world."""
        self._world = await self._new_world()

    @property
    def app(self) -> ASGIApp:
        """What answers requests: always the application of the present world."""
        return self._answer

    @property
    def queues(self) -> Queues:
        """The queues of the present world."""
        return self._world.parts.queues

    @property
    def paused(self) -> bool:
        """Whether deliveries are paused."""
        return self._world.parts.paused

    @property
    def in_flight(self) -> int:
        """The number of attempts in flight."""
        return self._world.parts.in_flight

    def now(self) -> Moment:
        """Return the virtual time."""
        return self._world.clock.now()

    async def run_until_idle(self) -> int:
        """Run due tasks, and tasks that they push, until none is due; return the attempts made."""
        async with self._call:
            return await self._world.driver.run_until_idle()

    async def advance(self, seconds: float) -> int:
        """Advance the time, and run tasks as they become due; return the attempts made."""
        async with self._call:
            return await self._world.driver.advance(seconds)

    async def reset(self) -> None:
        """Begin as after a start, with nothing."""
        async with self._call:
            await _end(self._world)
            self._world = await self._new_world()

    def start(self) -> None:
        """Do nothing: nothing happens by itself."""

    async def drain(self, limit: float) -> None:
        """Start no more attempts. The limit is no help where no time passes."""
        await self._world.parts.drain(0)

    def cut_off(self) -> None:
        """End the attempts in flight now."""
        self._world.parts.cut_off()

    async def end_requests(self) -> None:
        """End the requests that could go on for long."""
        await self._world.parts.end_requests()

    async def close(self) -> None:
        """End the present world."""
        await _end(self._world)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._world.parts.app(scope, receive, send)

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
