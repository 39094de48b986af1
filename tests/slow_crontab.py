"""A slow model of crontab lines: a walk through time, moment by moment.

It shares nothing with the search that it checks, not even how a line is read: a line is made
together with what it means.
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
        """Return whether a clock that shows this time shows one of the line's."""
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

    No change of the clock may come shortly before ``start``.
    """
    found: list[list[datetime]] = [[] for _ in lines]
    # Fixed times go by a clock that is never set back: it waits until the others are as far, and
    # when they are set forward, it runs through what they skip.
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
