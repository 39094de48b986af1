"""An event loop whose time advances only while all tasks wait, and its clock."""

from __future__ import annotations

import asyncio
import selectors

from poussetaches.core.moment import SECOND, ClockReading, Moment
from poussetaches.engine.clock import SystemClock

TURN_TIME = 1e-6  # seconds that each turn of the loop takes
MAX_TURNS = 2_000_000  # between two operations; hours of a busy server take a tenth


class Deadlock(Exception):
    """No callback is ready, and no timer is set."""


class Livelock(Exception):
    """Callbacks schedule each other without end."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs callbacks in the order in which they were scheduled; has no network."""

    def __init__(self, *, started_at: float) -> None:
        self._now = started_at
        self.turns = 0
        super().__init__(_VirtualSelector(self))

    def time(self) -> float:
        """Return virtual seconds."""
        return self._now

    def pass_time(self, seconds: float) -> None:
        """Advance the time, once in each turn."""
        self._now += seconds
        self.turns += 1
        if self.turns > MAX_TURNS:
            raise Livelock


class _VirtualSelector(selectors.SelectSelector):
    """Advances the time where the loop would wait for the network."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock
        self._loop.pass_time(max(timeout, TURN_TIME))
        return []


class SimulatedClock(SystemClock):
    """The clocks of a machine that can be suspended and restarted, and whose clock can be set.

    ``start`` is the number of this start of the machine, and ``slept`` the seconds since then for
    which the machine was suspended, which the monotonic clock does not count.
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
        self.jumped_at = (
            jumped_at  # monotonic; when the clock was set, or the process was suspended
        )

    @property
    def boot_id(self) -> str:
        """The number of this start of the machine."""
        return f"start {self._start}"

    def now(self) -> Moment:
        """Return the wall clock's time."""
        return Moment(self._zero + int(self._loop.time() * SECOND))

    def monotonic(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def read(self) -> ClockReading:
        """Return the wall clock's time together with the uptime."""
        return ClockReading(
            self.now(), int(self._loop.time() * SECOND) + round(self.slept * SECOND)
        )

    def jump(self, seconds: float) -> None:
        """Set the wall clock ahead or back."""
        self._zero += round(seconds * SECOND)
        self.jumped_at = self._loop.time()

    def suspend_machine(self, seconds: float) -> None:
        """Advance the time without the monotonic clock."""
        self.jump(seconds)
        self.slept += seconds

    def suspend_process(self, seconds: float) -> None:
        """Advance the time without running the process, as after SIGSTOP."""
        self._loop.pass_time(seconds)
        self.jumped_at = self._loop.time()
