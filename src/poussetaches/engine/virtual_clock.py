"""``VirtualClock``: a clock that only ``advance`` moves."""

from __future__ import annotations

import asyncio
import heapq
from contextlib import suppress
from itertools import count

from poussetaches.core.moment import SECOND, ClockReading, Moment
from poussetaches.engine.clock import LONGEST_WAIT, Bell, Clock

STARTED = 1000.0  # the first reading of the monotonic clock

_numbers = count(1)


class VirtualClock(Clock):
    """Clocks that move only by ``advance``. They count whole microseconds."""

    def __init__(self, now: Moment) -> None:
        self._now = now
        self._elapsed = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._boot_id = f"virtual machine {next(_numbers)}"

    @property
    def boot_id(self) -> str:
        """Identifies this clock within the process."""
        return self._boot_id

    def now(self) -> Moment:
        return self._now

    def monotonic(self) -> float:
        """Return seconds that only ``advance`` adds to."""
        return STARTED + self._elapsed / SECOND

    def read(self) -> ClockReading:
        return ClockReading(self._now, self._elapsed)

    def advance(self, seconds: float) -> None:
        """Advance the time, and wake all waits that end by then."""
        passed = round(seconds * SECOND)
        self._now = Moment(self._now + passed)
        self._elapsed += passed
        while self._sleepers and self._sleepers[0][0] <= self.monotonic():
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    def advance_to(self, moment: Moment) -> None:
        """Advance the time to a moment."""
        self.advance((moment - self._now) / SECOND)

    async def wait(self, bell: Bell, *, until: float | None) -> None:
        latest = self.monotonic() + LONGEST_WAIT
        alarm = asyncio.ensure_future(self._until(latest if until is None else min(until, latest)))
        heard = asyncio.ensure_future(bell.heard())
        try:
            await asyncio.wait({alarm, heard}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in (alarm, heard):
                waiter.cancel()
                with suppress(asyncio.CancelledError):
                    await waiter

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has advanced by so many seconds."""
        await self._until(self.monotonic() + seconds)

    async def _until(self, time: float) -> None:
        if time <= self.monotonic():
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (time, next(self._order), sleeper))
        await sleeper
