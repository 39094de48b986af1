"""``Shortage``: how attempts slow down while this machine has too little to make them with."""

from __future__ import annotations

import logging
from collections.abc import Callable

from poussetaches.core.task import Outcome
from poussetaches.engine.clock import Clock

NEVER = float("-inf")
STEP = 1.0  # seconds without any start, and until twice as many attempts may be in flight
REPORTED_FOR = 60.0  # seconds that a shortage is reported after it was met last
PLENTY = 10_000  # attempts; no setting allows more

log = logging.getLogger(__name__)


class Shortage:
    """Remembers that descriptors, memory or ports ran out, and how many attempts fitted.

    No attempt and no probe starts in the next second, so that what was put back is not tried in a
    busy loop. From then on as many attempts may be in flight as were when it happened, and twice
    as many with each further second.
    """

    def __init__(self, clock: Clock, *, in_flight: Callable[[], int]) -> None:
        self._clock = clock
        self._in_flight = in_flight
        self._error = ""
        self._seen_at = self._logged_at = NEVER  # monotonic
        self._most: int | None = None  # attempts in flight; None is no limit of ours
        self._fitting = 1  # attempts that were in flight when it was met
        self._step_at = NEVER  # when more may be

    @property
    def error(self) -> str | None:
        """What ran out within the last minute; None when nothing did."""
        is_over = self._clock.monotonic() >= self._seen_at + REPORTED_FOR
        return None if is_over else self._error

    @property
    def pause_ends_at(self) -> float | None:
        """Until when nothing is to be started, monotonic; None when something may be."""
        self._catch_up()
        return self._step_at if self._most == 0 else None

    def met(self, outcome: Outcome) -> None:
        """Remember a shortage that an attempt or a probe has just met.

        One that concerns a single destination is that origin's to be held for, and is reported.
        """
        now = self._clock.monotonic()
        self._error, self._seen_at = outcome.error or "", now
        if now >= self._logged_at + REPORTED_FOR:
            self._logged_at = now
            log.warning("out of resources, attempts are put back", extra={"error": self._error})
        if not outcome.unreachable:
            self._most, self._fitting = 0, max(1, self._in_flight())
            self._step_at = now + STEP

    def most_in_flight(self, most: int) -> int:
        """Return how many attempts may be in flight at this moment, of ``most`` at other times."""
        self._catch_up()
        return most if self._most is None else min(most, self._most)

    def next_step_at(self, most: int) -> float | None:
        """Return when more attempts may be in flight; None when ``most`` may be already."""
        return None if self.most_in_flight(most) >= most else self._step_at

    def _catch_up(self) -> None:
        now = self._clock.monotonic()
        while self._most is not None and now >= self._step_at:
            self._most = max(self._fitting, 2 * self._most)
            self._step_at += STEP
            if self._most >= PLENTY:
                self._most = None
