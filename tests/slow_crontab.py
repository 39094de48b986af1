"""A slow model of crontab lines: it checks every moment one by one.

It shares no code with the search under test, not even the parser: a line is generated
together with its meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


def numbers(first: int, last: int) -> frozenset[int]:
    return frozenset(range(first, last + 1))


@dataclass(frozen=True)
class Line:
    """A crontab line and its meaning; weekdays are those of ``isoweekday``, Sunday is 7."""

    text: str
    seconds: frozenset[int] = frozenset({0})
    minutes: frozenset[int] = numbers(0, 59)
    hours: frozenset[int] = numbers(0, 23)
    days: frozenset[int] = numbers(1, 31)
    months: frozenset[int] = numbers(1, 12)
    weekdays: frozenset[int] = numbers(1, 7)
    either_day: bool = False  # a day of the month or a weekday is enough
    by_elapsed_time: bool = False

    def matches(self, local: datetime) -> bool:
        """Return whether the line matches this local time."""
        if local.minute not in self.minutes or local.hour not in self.hours:
            return False
        if local.second not in self.seconds or local.month not in self.months:
            return False
        day, weekday = local.day in self.days, local.isoweekday() in self.weekdays
        return (day or weekday) if self.either_day else (day and weekday)


def walk(
    lines: Sequence[Line], zone: ZoneInfo, start: datetime, end: datetime, *, step: timedelta
) -> list[list[datetime]]:
    """Return the moments from ``start`` until ``end`` at which each line is due.

    The clock must not change shortly before ``start``.
    """
    found: list[list[datetime]] = [[] for _ in lines]
    # Fixed times use a clock that is never set back: it stops until the others reach its time, and
    # when they are set forward, it shows each skipped time.
    steady = (start - step).astimezone(zone).replace(tzinfo=None)
    now = start
    while now < end:
        local = now.astimezone(zone).replace(tzinfo=None)
        passed = []
        while steady < local:
            steady += step
            passed.append(steady)
        for line, due in zip(lines, found, strict=True):
            if any(map(line.matches, [local] if line.by_elapsed_time else passed)):
                due.append(now)
        now += step
    return found


def changes(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the moments, to the minute, at which the clock is changed."""
    now = start
    while now < end:
        following = now + DAY
        if now.astimezone(zone).utcoffset() != following.astimezone(zone).utcoffset():
            at = now
            while at.astimezone(zone).utcoffset() == now.astimezone(zone).utcoffset():
                at += MINUTE
            yield at
        now = following


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
