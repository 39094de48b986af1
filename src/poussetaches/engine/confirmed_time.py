"""The confirmed time: the wall clock's time without recent leaps ahead (decision 29)."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from poussetaches.core.moment import HOUR, SECOND, ClockReading, ClockRecord, Moment

CONFIRMED_AFTER = HOUR  # NTP daemons poll, and correct the clock, every 17 minutes at the latest
NOTICED = SECOND  # microseconds; smaller steps are ordinary corrections


class Level(NamedTuple):
    """A boot time by the wall clock, and the uptime since which no reading gave an earlier one."""

    booted_at: Moment
    since: int


class ConfirmedTime:
    """Follows the lowest boot time read within the last hour.

    So a clock that was set back is trusted at once, and one that was set ahead is trusted after it
    has stayed ahead for ``CONFIRMED_AFTER``.
    """

    def __init__(self, reading: ClockReading) -> None:
        self._levels = deque([Level(reading.booted_at, reading.uptime)])  # rising
        self._highest: Moment | None = None
        self._before: Level | None = None  # what was confirmed before the clock was set back

    @classmethod
    def recalled(
        cls,
        record: ClockRecord | None,
        reading: ClockReading,
        *,
        boot_id: str,
        latest: Moment | None,
    ) -> ConfirmedTime:
        """Return the confirmed time as an earlier process left it.

        If the machine was rebooted since, nothing measured for how long it was off. The confirmed
        time is then ``latest``, the time of the last push in the store, less the leap by which
        the clock was ahead then.
        """
        if record is not None and boot_id and record.boot_id == boot_id:
            found = cls(ClockReading(Moment(record.confirmed + reading.uptime), reading.uptime))
            found._highest = record.highest
        else:
            leap = 0 if record is None else max(0, record.seen - record.confirmed)
            known = reading.now if latest is None else Moment(latest - leap)
            found = cls(ClockReading(known, reading.uptime))
        found._follow(reading)
        return found

    def at(self, reading: ClockReading) -> Moment:
        """Return the confirmed time at a reading of the clocks."""
        self._follow(reading)
        lowest = self._levels[0].booted_at
        if reading.booted_at - lowest <= NOTICED:
            return reading.now
        return Moment(lowest + reading.uptime)

    def latest_possible(self, reading: ClockReading) -> Moment:
        """Return the latest time that it may be: a clock that was just set back may be wrong."""
        self._follow(reading)
        before = self._before
        if before is None or before.since <= reading.uptime - CONFIRMED_AFTER:
            return reading.now
        return Moment(max(reading.now, before.booted_at + reading.uptime))

    def latest(self, reading: ClockReading) -> Moment | None:
        """Return the latest time that was ever confirmed, plus the time elapsed since.

        None if no time has stood for ``CONFIRMED_AFTER`` yet.
        """
        self._follow(reading)
        return None if self._highest is None else Moment(self._highest + reading.uptime)

    def record(self, reading: ClockReading, *, boot_id: str) -> ClockRecord:
        """Return the record for the next process."""
        self._follow(reading)
        return ClockRecord(
            boot_id=boot_id,
            seen=reading.booted_at,
            confirmed=self._levels[0].booted_at,
            highest=self._highest,
        )

    def _follow(self, reading: ClockReading) -> None:
        booted_at, uptime = reading.booted_at, reading.uptime
        levels = self._levels
        if booted_at < levels[0].booted_at - NOTICED:
            self._before = Level(levels[0].booted_at, uptime)
        while levels and levels[-1].booted_at > booted_at:
            levels.pop()
        if not levels or booted_at > levels[-1].booted_at + NOTICED:
            levels.append(Level(booted_at, uptime))
        while len(levels) > 1 and levels[1].since <= uptime - CONFIRMED_AFTER:
            levels.popleft()
        if levels[0].since <= uptime - CONFIRMED_AFTER:
            lowest = levels[0].booted_at
            self._highest = lowest if self._highest is None else max(self._highest, lowest)
