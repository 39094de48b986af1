"""The watchdog behind ``/healthz``: finds loops that are stuck."""

from __future__ import annotations

from collections.abc import Iterable

from poussetaches.engine.clock import LONGEST_WAIT, Clock
from poussetaches.engine.loop import Loop

STUCK_AFTER = 60.0  # seconds; six times the longest sleep of a loop
STANDSTILL = 3 * LONGEST_WAIT  # seconds without a beat; no loop sleeps for so long


class Watchdog:
    """Distinguishes stuck loops from a suspended process.

    A loop that never waits for anything calls ``beat`` at each turn. After a suspension, every
    loop has ``STUCK_AFTER`` from when the process resumed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beat_at: float | None = None  # monotonic; None before the loops are started
        self._resumed_at = float("-inf")

    def start(self) -> None:
        """Expect beats from now on."""
        self._beat_at = self._clock.monotonic()

    def beat(self) -> float:
        """Record that the process runs; return for how many seconds it was suspended before."""
        if self._beat_at is None:
            return 0.0  # the loops are turned by hand, and time passes between their turns
        now = self._clock.monotonic()
        before, self._beat_at = self._beat_at, now
        if now - before < STANDSTILL:
            return 0.0
        self._resumed_at = now
        return now - before

    def stuck(
        self,
        loops: Iterable[Loop],
        *,
        behind_since: float | None,
        recording_since: float | None,
    ) -> list[str]:
        """Return a description of each loop, task or outcome that is stuck."""
        now = self._clock.monotonic()
        if self._beat_at is not None and now - self._beat_at >= STANDSTILL:
            return []  # the process has just resumed, and no loop had a turn
        found = [
            f"the {loop.name} has not turned for {now - loop.last_turn_at:.0f} s"
            for loop in loops
            if self._is_overdue(loop.last_turn_at, now)
        ]
        if behind_since is not None and self._is_overdue(behind_since, now):
            found.append("a due task that nothing holds is not being started")
        if recording_since is not None and self._is_overdue(recording_since, now):
            found.append("the outcome of an attempt is not being recorded")
        return found

    def _is_overdue(self, since: float, now: float) -> bool:
        return now - max(since, self._resumed_at) > STUCK_AFTER
