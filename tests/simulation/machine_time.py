"""The settings of a machine's wall clock, and which of its times can be trusted."""

from __future__ import annotations

from typing import NamedTuple

CONFIRMED_AFTER = 3600.0  # seconds for which a clock that was set ahead is not trusted
SURELY_SEEN = 120.0  # seconds; a server in trouble may miss what the clock shows for less


class Setting(NamedTuple):
    """How far the wall clock was ahead of the measured time, and during which time."""

    offset: float
    since: float
    until: float

    @property
    def was_seen(self) -> bool:
        """Whether a running server has read the clock meanwhile."""
        return self.until - self.since >= SURELY_SEEN


class MachineTime:
    """The settings of a wall clock. All times are seconds that a clock of the machine measured.

    No clock measures the time for which a machine is off: it appears as a leap of the wall clock.
    """

    def __init__(self, offset: float) -> None:
        self._offset = offset
        self._since = float("-inf")
        self._earlier: list[Setting] = []
        self._peaks: list[tuple[float, float]] = []  # when it was set, and the earliest time then

    def set(self, offset: float, *, at: float) -> None:
        """Note what the wall clock is set to."""
        if abs(offset - self._offset) < 0.001:
            return
        self._peaks.append((at, self.earliest(at)))
        self._earlier.append(Setting(self._offset, self._since, at))
        self._offset, self._since = offset, at

    def earliest(self, at: float) -> float:
        """Return the earliest time that a server surely read in the last hour."""
        present = Setting(self._offset, self._since, at)
        lowest = present.offset if present.was_seen else float("inf")
        for setting in reversed(self._earlier):
            if setting.until <= at - CONFIRMED_AFTER and lowest < float("inf"):
                break
            if setting.was_seen:
                lowest = min(lowest, setting.offset)
        return at + (lowest if lowest < float("inf") else present.offset)

    def latest_of_the_earliest(self, *, since: float, at: float) -> float:
        """Return the latest value of ``earliest`` since a moment."""
        return max([self.earliest(at), *(peak for when, peak in self._peaks if when >= since)])
