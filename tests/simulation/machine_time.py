"""The settings of a machine's wall clock, and which of its times can be trusted."""

from __future__ import annotations

from typing import NamedTuple

CONFIRMED_AFTER = 3600.0  # seconds for which a clock that was set ahead is not trusted
SURELY_NOTICED = 120.0  # seconds; a server whose store fails may miss shorter settings


class Setting(NamedTuple):
    """The offset of the wall clock from the measured time, and when it applied."""

    offset: float
    since: float
    until: float

    @property
    def was_noticed(self) -> bool:
        """Whether a running server has surely read the clock with this setting."""
        return self.until - self.since >= SURELY_NOTICED


class MachineTime:
    """The settings of a wall clock. All times are seconds that a clock of the machine measured.

    No clock measures the time for which a machine is off: it appears as a leap of the wall clock.
    """

    def __init__(self, offset: float) -> None:
        self._offset = offset
        self._since = float("-inf")
        self._earlier: list[Setting] = []
        self._peaks: list[tuple[float, float]] = []  # when it was set, and the confirmed time then

    def set(self, offset: float, *, at: float) -> None:
        """Record a setting of the wall clock."""
        if abs(offset - self._offset) < 0.001:
            return
        self._peaks.append((at, self.confirmed(at)))
        self._earlier.append(Setting(self._offset, self._since, at))
        self._offset, self._since = offset, at

    def confirmed(self, at: float) -> float:
        """Return the confirmed time, by the earliest setting noticed in the last hour."""
        present = Setting(self._offset, self._since, at)
        lowest = present.offset if present.was_noticed else float("inf")
        for setting in reversed(self._earlier):
            if setting.until <= at - CONFIRMED_AFTER and lowest < float("inf"):
                break
            if setting.was_noticed:
                lowest = min(lowest, setting.offset)
        return at + (lowest if lowest < float("inf") else present.offset)

    def latest_confirmed(self, *, since: float, at: float) -> float:
        """Return the latest confirmed time since a moment."""
        return max([self.confirmed(at), *(peak for when, peak in self._peaks if when >= since)])
