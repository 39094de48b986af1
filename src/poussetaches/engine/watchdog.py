"""The watchdog behind ``/healthz``: which loops do not turn, though the process runs."""

from __future__ import annotations

from collections.abc import Iterable

from poussetaches.engine.clock import LONGEST_WAIT, Clock
from poussetaches.engine.loop import Loop

STUCK_AFTER = 60.0  # seconds; six times the longest sleep of a loop
STANDSTILL = 3 * LONGEST_WAIT  # seconds without a beat: no loop sleeps for so long


class Watchdog:
    """Tells loops that are stuck from a process that stood still, as a suspended one does.

    A loop that waits for nobody else has it beat at each turn. After a standstill everybody has
    ``STUCK_AFTER`` from when the process went on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beat_at: float | None = None  # monotonic; None before the loops are started
        self._resumed_at = float("-inf")

    def start(self) -> None:
        """Expect beats from now on."""
        self._beat_at = self._clock.monotonic()

    def beat(self) -> float:
        """Note that the process runs; return for how many seconds it stood still before."""
        if self._beat_at is None:
            return 0.0  # the loops are turned by hand, and time passes between their turns
        now = self._clock.monotonic()
        before, self._beat_at = self._beat_at, now
        if now - before < STANDSTILL:
            return 0.0
        self._resumed_at = now
        return now - before

    def stuck(self, loops: Iterable[Loop], *, behind_since: float | None) -> list[str]:
        """Return what ought to move and does not, in words."""
        now = self._clock.monotonic()
        if self._beat_at is not None and now - self._beat_at >= STANDSTILL:
            return []  # it has just gone on, and no loop has had its turn
        found = [
            f"the {loop.name} has not turned for {now - loop.last_turn_at:.0f} s"
            for loop in loops
            if self._is_overdue(loop.last_turn_at, now)
        ]
        if behind_since is not None and self._is_overdue(behind_since, now):
            found.append("a due task that nothing holds is not being started")
        return found

    def _is_overdue(self, since: float, now: float) -> bool:
        return now - max(since, self._resumed_at) > STUCK_AFTER
