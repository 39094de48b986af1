"""``Shortage``: fewer attempts while this machine is out of descriptors, memory or ports."""

from __future__ import annotations

import logging
from collections.abc import Callable

from poussetaches.core.task import Outcome
from poussetaches.engine.clock import Clock

NEVER = float("-inf")
STEP = 1.0  # seconds without any start, and until twice as many attempts may be in flight
REPORTED_FOR = 60.0  # seconds for which a shortage is reported after it last occurred
PLENTY = 10_000  # attempts; no setting allows more

log = logging.getLogger(__name__)


class Shortage:
    """Limits attempts after descriptors, memory or ports ran out.

    No attempt and no probe starts in the next second, so that tasks that were put back are not
    tried in a busy loop. Then as many attempts may be in flight as there were when it happened,
    and twice as many with each further second.
    """

    def __init__(self, clock: Clock, *, in_flight: Callable[[], int]) -> None:
        self._clock = clock
        self._in_flight = in_flight
        self._error = ""
        self._seen_at = self._logged_at = NEVER  # monotonic
        self._most: int | None = None  # attempts in flight; None if not limited
        self._fitting = 1  # attempts in flight when the last shortage occurred
        self._step_at = NEVER  # monotonic; when the limit is raised

    @property
    def error(self) -> str | None:
        """The error of a shortage within the last minute; None if there was none."""
        is_over = self._clock.monotonic() >= self._seen_at + REPORTED_FOR
        return None if is_over else self._error

    @property
    def pause_ends_at(self) -> float | None:
        """The time (monotonic) at which attempts may start again; None if they may now."""
        self._catch_up()
        return self._step_at if self._most == 0 else None

    def met(self, outcome: Outcome) -> None:
        """Record a shortage in an attempt or a probe.

        If it concerns a single destination, it is only reported: that origin is held instead.
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
        """Return how many attempts may be in flight now; ``most`` if there is no shortage."""
        self._catch_up()
        return most if self._most is None else min(most, self._most)

    def next_step_at(self, most: int) -> float | None:
        """Return when more attempts may be in flight; None if ``most`` may be now."""
        return None if self.most_in_flight(most) >= most else self._step_at

    def _catch_up(self) -> None:
        now = self._clock.monotonic()
        while self._most is not None and now >= self._step_at:
            self._most = max(self._fitting, 2 * self._most)
            self._step_at += STEP
            if self._most >= PLENTY:
                self._most = None
