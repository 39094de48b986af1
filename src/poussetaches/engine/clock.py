"""Time as the engine sees it, and the bell that ends a wait early."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from poussetaches.core.moment import Moment

LONGEST_WAIT = 10.0  # seconds; so that a jump of the wall clock is noticed


class Bell:
    """Wakes whoever waits for it. A ring that nobody hears is kept for the next who waits."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the one who waits."""
        self._event.set()

    @property
    def has_rung(self) -> bool:
        """Tell whether it rang and nobody cleared it since."""
        return self._event.is_set()

    def clear(self) -> None:
        """Forget the rings so far. To be done before looking for work, never after."""
        self._event.clear()

    async def heard(self) -> None:
        """Wait for a ring."""
        await self._event.wait()


class Clock(Protocol):
    """The wall clock says when tasks are due; the monotonic one measures how long things take."""

    def now(self) -> Moment:
        """Return the wall clock's time."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps."""

    async def wait(self, bell: Bell, *, until: float | None) -> None:
        """Wait for the bell, at the longest until a monotonic time, and never over 10 s."""

    async def sleep(self, seconds: float) -> None:
        """Wait for a length of monotonic time."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> Moment:
        """Return the wall clock's time."""
        return Moment(time.time_ns() // 1000)

    def monotonic(self) -> float:
        """Return the machine's monotonic clock."""
        return time.monotonic()

    async def wait(self, bell: Bell, *, until: float | None) -> None:
        """Wait for the bell or the time, whichever comes first."""
        longest = LONGEST_WAIT
        if until is not None:
            longest = min(longest, max(0.0, until - self.monotonic()))
        try:
            async with asyncio.timeout(longest):
                await bell.heard()
        except TimeoutError:
            return

    async def sleep(self, seconds: float) -> None:
        """Wait for a length of time."""
        await asyncio.sleep(seconds)
