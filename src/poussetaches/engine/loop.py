"""Loops, which do all due work and sleep until more is due or their bell rings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from poussetaches.engine.clock import Bell, Clock
from poussetaches.engine.defects import Defects, raise_end

# Does everything that is due; returns the monotonic time of the next tick, None for the bell.
Tick = Callable[[], Awaitable[float | None]]

AFTER_ERROR = 1.0  # seconds


class Loop:
    """Calls ``tick`` repeatedly: at the time that it returned, or when the bell rings."""

    def __init__(
        self, name: str, tick: Tick, *, bell: Bell, clock: Clock, defects: Defects
    ) -> None:
        self.name = name
        self.last_turn_at = clock.monotonic()
        self._tick = tick
        self._bell = bell
        self._clock = clock
        self._defects = defects
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the loop."""
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Stop after the current turn. May be called twice."""
        self._stopping = True
        self._bell.ring()
        if self._task is not None:
            await self._task

    @property
    def has_rung(self) -> bool:
        """Whether its bell has rung since the last turn began."""
        return self._bell.has_rung

    async def heard(self) -> None:
        """Wait until its bell rings."""
        await self._bell.heard()

    async def turn(self) -> float | None:
        """Do all due work; return the monotonic time of the next turn, None for the bell."""
        # Cleared before the tick: work that arrives during the tick rings it again.
        self._bell.clear()
        try:
            return await self._tick()
        except BaseException as exc:  # a loop that ended would stop all deliveries unnoticed
            raise_end(exc)
            self._defects.note(f"{self.name} failed, continuing", exc)
            return self._clock.monotonic() + AFTER_ERROR
        finally:
            self.last_turn_at = self._clock.monotonic()

    async def _run(self) -> None:
        while not self._stopping:
            wake_at = await self.turn()
            if not self._stopping:
                await self._clock.wait(self._bell, until=wake_at)
