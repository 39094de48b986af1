"""An event loop on which time passes only while everybody waits, and its clock."""

from __future__ import annotations

import asyncio
import selectors

from poussetaches.core.moment import SECOND, ClockReading, Moment
from poussetaches.engine.clock import SystemClock

CREEP = 1e-6  # seconds that each turn of the loop takes
MOST_TURNS = 2_000_000  # between two operations; some hours of a busy server take a tenth


class EverybodyWaits(Exception):
    """Nothing is ready, and nothing ever will be."""


class GoesRound(Exception):
    """Something is done again and again, and nothing comes of it."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs callbacks in the order in which they were scheduled; nothing comes from outside."""

    def __init__(self, *, started_at: float) -> None:
        self._now = started_at
        self.turns = 0
        super().__init__(_Nothing(self))

    def time(self) -> float:
        """Return virtual seconds."""
        return self._now

    def pass_time(self, seconds: float) -> None:
        """Let time pass, as it does once in each turn."""
        self._now += seconds
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise GoesRound


class _Nothing(selectors.SelectSelector):
    """Where the loop waits for the network, time passes."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise EverybodyWaits
        self._loop.pass_time(max(timeout, CREEP))
        return []


class SimulatedClock(SystemClock):
    """The clocks of a machine whose wall clock can be set, which can sleep, and be restarted.

    ``start`` is the number of this start of the machine, and ``slept`` the seconds for which the
    monotonic clock has stood still since then.
    """

    def __init__(
        self,
        now: Moment,
        loop: SimulatedLoop,
        *,
        start: int = 0,
        slept: float = 0.0,
        jumped_at: float = -1.0,
    ) -> None:
        self._loop = loop
        self._zero = now - int(loop.time() * SECOND)
        self._start = start
        self.slept = slept
        self.jumped_at = jumped_at  # monotonic; when the clock was set, or the process stood still

    @property
    def boot_id(self) -> str:
        """Which of the machine's starts this is."""
        return f"start {self._start}"

    def now(self) -> Moment:
        """Return the wall clock's time."""
        return Moment(self._zero + int(self._loop.time() * SECOND))

    def monotonic(self) -> float:
        """Return the loop's own time."""
        return self._loop.time()

    def read(self) -> ClockReading:
        """Return the wall clock's time together with the uptime."""
        return ClockReading(
            self.now(), int(self._loop.time() * SECOND) + round(self.slept * SECOND)
        )

    def jump(self, seconds: float) -> None:
        """Set the wall clock ahead, or back."""
        self._zero += round(seconds * SECOND)
        self.jumped_at = self._loop.time()

    def sleep_with_the_machine(self, seconds: float) -> None:
        """Pass time that the monotonic clock does not count."""
        self.jump(seconds)
        self.slept += seconds

    def stand_still(self, seconds: float) -> None:
        """Pass time in which the process does not run, as after SIGSTOP."""
        self._loop.pass_time(seconds)
        self.jumped_at = self._loop.time()
