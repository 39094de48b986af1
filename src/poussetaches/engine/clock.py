"""Time as the engine sees it, and the bell that ends a wait early."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path

from poussetaches.core.moment import SECOND, ClockReading, ClockRecord, Moment
from poussetaches.engine.confirmed_time import ConfirmedTime

LONGEST_WAIT = 10.0  # seconds; so that a jump of the wall clock is noticed
READ_TOGETHER = 0.01  # seconds within which the clocks of one reading must be read

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Bell:
    """Wakes its waiter. A ring without a waiter ends the next wait at once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter."""
        self._event.set()

    @property
    def has_rung(self) -> bool:
        """Whether it rang since it was last cleared."""
        return self._event.is_set()

    def clear(self) -> None:
        """Forget earlier rings. Call it before looking for work, never after."""
        self._event.clear()

    async def heard(self) -> None:
        """Wait for a ring."""
        await self._event.wait()


class Clock(ABC):
    """The wall clock says when tasks are due; the monotonic clock measures how long things take.

    The confirmed time, which is derived from readings of the two, decides when something is old
    enough to be deleted or buried.
    """

    @property
    @abstractmethod
    def boot_id(self) -> str:
        """Identifies the boot of the machine that the uptime counts from; empty if unknown."""

    @abstractmethod
    def now(self) -> Moment:
        """Return the wall clock's time."""

    @abstractmethod
    def monotonic(self) -> float:
        """Return the seconds of a clock that never jumps."""

    @abstractmethod
    def read(self) -> ClockReading:
        """Return the wall clock's time together with the machine's uptime."""

    @abstractmethod
    async def wait(self, bell: Bell, *, until: float | None) -> None:
        """Wait until the bell rings or a monotonic time is reached, for at most 10 s."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait for a length of monotonic time."""

    def confirmed(self) -> Moment:
        """Return the wall clock's time without leaps ahead within the last hour."""
        return self._confirmed.at(self.read())

    def latest_possible(self) -> Moment:
        """Return the wall clock's time as if it had not been set back within the last hour.

        Retention periods begin at it.
        """
        return self._confirmed.latest_possible(self.read())

    def latest_confirmed(self) -> Moment | None:
        """Return the latest time that was ever confirmed, plus the time elapsed since.

        Later times were only ever read while the clock was wrongly ahead. None if unknown.
        """
        return self._confirmed.latest(self.read())

    def record(self) -> ClockRecord:
        """Return the record to store so that a restart does not lose the confirmed time."""
        return self._confirmed.record(self.read(), boot_id=self.boot_id)

    def recall(self, record: ClockRecord | None, *, latest: Moment | None) -> None:
        """Restore the confirmed time from a record, or else from the latest push in the store."""
        self._confirmed = ConfirmedTime.recalled(
            record, self.read(), boot_id=self.boot_id, latest=latest
        )

    @cached_property
    def _confirmed(self) -> ConfirmedTime:
        return ConfirmedTime(self.read())


class SystemClock(Clock):
    """The machine's clocks."""

    @cached_property
    def boot_id(self) -> str:
        try:
            return _BOOT_ID.read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def now(self) -> Moment:
        return Moment(time.time_ns() // 1000)

    def monotonic(self) -> float:
        return time.monotonic()

    def read(self) -> ClockReading:
        while True:
            begun = self.monotonic()
            now, suspended = self.now(), _suspended()
            elapsed = self.monotonic()
            # A process stopped between the two readings would see a leap that never happened.
            if elapsed - begun < READ_TOGETHER:
                return ClockReading(now, round((elapsed + suspended) * SECOND))

    async def wait(self, bell: Bell, *, until: float | None) -> None:
        longest = LONGEST_WAIT
        if until is not None:
            longest = min(longest, max(0.0, until - self.monotonic()))
        try:
            async with asyncio.timeout(longest):
                await bell.heard()
        except TimeoutError:
            return

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _suspended() -> float:
    """Return for how many seconds the machine was suspended since its boot; 0 if unknown."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
