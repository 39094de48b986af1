"""Crontab lines: five or six fields, and the local times that match them.

A line knows only the calendar. ``core/local_time.py`` finds the moments at which a zone's clocks
show a local time, and handles times that they skip or show twice.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterable, Sequence
from datetime import MAXYEAR, date, datetime, time
from functools import lru_cache
from itertools import chain

import msgspec

from poussetaches.core.errors import InvalidSchedule

YEARS = 50  # how far a search goes; a date and a weekday meet at least once in 40 years

_LAST_DAY, _LAST_WORKDAY = -1, -2  # in place of a day's number
_WEEKS = 5  # of a month: a weekday's last one is the fourth or the fifth
_LAST_WEEK, _EVERY_WEEK = -1, 0  # in place of a week's number


class _Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a line: its values, and how error messages describe them."""

    name: str
    low: int
    high: int
    size: int  # number of values; for the weekday 7, since Sunday is both 0 and 7
    allowed: str
    names: tuple[str, ...] = ()  # of the values, starting at ``low``
    unit: tuple[int, str] | None = None  # the length of one step, written as for @every


_SECOND = _Field(
    name="second",
    low=0,
    high=59,
    size=60,
    allowed="0 to 59, as in 30, 0-29 or */15",
    unit=(1, "s"),
)
_MINUTE = msgspec.structs.replace(_SECOND, name="minute", unit=(1, "m"))
_HOUR = _Field(
    name="hour",
    low=0,
    high=23,
    size=24,
    allowed="0 to 23, as in 3, 22-4 or */2",
    unit=(1, "h"),
)
_DAY = _Field(
    name="day of the month",
    low=1,
    high=31,
    size=31,
    allowed="1 to 31, L (the last day) or LW (the last day from Monday to Friday), as in 1,15",
    unit=(24, "h"),
)
_MONTH = _Field(
    name="month",
    low=1,
    high=12,
    size=12,
    allowed="1 to 12 or jan to dec, as in 6 or nov-feb",
    names=(
        *("JAN", "FEB", "MAR", "APR", "MAY", "JUN"),
        *("JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
    ),
)
_WEEKDAY = _Field(
    name="weekday",
    low=0,
    high=7,
    size=7,
    allowed=(
        "0 to 7 (0 and 7 are Sunday) or sun to sat, as in mon-fri, 1#2 (the second Monday) or "
        "5L (the last Friday)"
    ),
    names=("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"),
)
_FIELDS = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)
_SPECIAL_DAYS = {"L": _LAST_DAY, "LW": _LAST_WORKDAY}
_MONTH_LENGTHS = {2: (28, 29), 4: (30,), 6: (30,), 9: (30,), 11: (30,)}  # the others have 31


# Compared by identity, since it is the key of a cache.
class _Days(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The days that a line matches, by their number and by their weekday."""

    of_month: frozenset[int]
    of_week: frozenset[tuple[int, int]]  # a weekday, Sunday being 0, and a week of the month
    need_both: bool  # otherwise one of the two is enough


class Crontab(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The local times that a line matches."""

    seconds: Sequence[int]
    minutes: Sequence[int]
    hours: Sequence[int]
    months: Sequence[int]
    days: _Days
    by_elapsed_time: bool  # due whenever a clock shows a matching time; otherwise once per time

    def first_from(self, start: datetime) -> datetime | None:
        """Return the first match at or after ``start``; None if there is none in 50 years."""
        if start.month in self.months and start.day in self._days_in(start.year, start.month):
            found = self._time_from(start.time())
            if found is not None:
                return datetime.combine(start, found)
        day = self._day_after(start)
        if day is None:
            return None
        return datetime.combine(day, time(self.hours[0], self.minutes[0], self.seconds[0]))

    def _time_from(self, start: time) -> time | None:
        if start.hour in self.hours:
            if start.minute in self.minutes:
                second = _first_from(start.second, self.seconds)
                if second is not None:
                    return time(start.hour, start.minute, second)
            minute = _first_from(start.minute + 1, self.minutes)
            if minute is not None:
                return time(start.hour, minute, self.seconds[0])
        hour = _first_from(start.hour + 1, self.hours)
        return None if hour is None else time(hour, self.minutes[0], self.seconds[0])

    def _day_after(self, start: date) -> date | None:
        year, month, first = start.year, start.month, start.day + 1
        while year <= min(start.year + YEARS, MAXYEAR):
            if month in self.months:
                day = _first_from(first, self._days_in(year, month))
                if day is not None:
                    return date(year, month, day)
            year, month, first = year + month // 12, month % 12 + 1, 1
        return None

    def _days_in(self, year: int, month: int) -> Sequence[int]:
        first_weekday, length = monthrange(year, month)
        return _matching_days(self.days, (first_weekday + 1) % 7, length)


def read_crontab(line: str) -> Crontab:
    """Parse a crontab line.

    Raises:
        InvalidSchedule: it cannot be read, or no date matches it.
    """
    second, minute, hour, day, month, weekday = _split(line)
    months = _numbers(_MONTH, month)
    days = _Days(
        of_month=frozenset(_numbers(_DAY, day)),
        of_week=frozenset(chain.from_iterable(map(_weekdays, weekday.split(",")))),
        need_both=day.startswith("*") or weekday.startswith("*"),
    )
    if not _is_possible(days, months):
        reason = "none of its months has such a day; write L for the last day of the month"
        if days.of_week != frozenset(_weekdays("*")):
            reason = "no date has both its day of the month and its weekday; change one of them"
        raise _error(f"{line.strip()!r} never matches: {reason}")
    return Crontab(
        seconds=_numbers(_SECOND, second),
        minutes=_numbers(_MINUTE, minute),
        hours=_numbers(_HOUR, hour),
        months=months,
        days=days,
        by_elapsed_time=not {"*", "/"}.isdisjoint(minute + hour),
    )


def check_steps(line: str) -> None:
    """Check that each step of a readable line has an effect, unlike that of ``*/90`` minutes.

    ``read_crontab`` ignores such a step, since earlier versions did, and stored schedules may have
    one.

    Raises:
        InvalidSchedule: a step is too large, or follows ``L`` or ``LW``.
    """
    for field, text in zip(_FIELDS, _split(line), strict=True):
        for part in text.split(","):
            base, has_step, step = part.upper().partition("/")
            if has_step and int(step) > field.size:
                raise _wrong_step(field, part)
            if has_step and field is _DAY and base in _SPECIAL_DAYS:
                raise _error(f"{part!r}: {base} takes no step; write {base} alone")


def _split(line: str) -> list[str]:
    texts = line.replace("?", "*").split()
    if len(texts) not in (len(_FIELDS) - 1, len(_FIELDS)):
        raise _error(
            f"{line.strip()!r} is not a schedule; write five fields (minute hour day month "
            "weekday), six (second first), or a descriptor such as @hourly or @every 90s"
        )
    return texts if len(texts) == len(_FIELDS) else ["0", *texts]


def _numbers(field: _Field, text: str) -> tuple[int, ...]:
    return tuple(sorted({number for part in text.split(",") for number in _range(field, part)}))


def _weekdays(part: str) -> Iterable[tuple[int, int]]:
    name, nth, week = part.partition("#")
    if nth:
        if not _is_number(week) or not 1 <= int(week) <= _WEEKS:
            raise _wrong_value(_WEEKDAY, part)
        return [(_value(_WEEKDAY, name) % 7, int(week))]
    if part.upper().endswith("L"):
        return [(_value(_WEEKDAY, part[:-1]) % 7, _LAST_WEEK)]
    return [(weekday, _EVERY_WEEK) for weekday in _range(_WEEKDAY, part)]


def _range(field: _Field, part: str) -> Iterable[int]:
    """Return the values of a part of a field; a range such as ``22-4`` wraps around."""
    base, has_step, step = part.partition("/")
    if has_step and (not _is_number(step) or int(step) == 0):
        raise _wrong_step(field, part)
    if field is _DAY and base.upper() in _SPECIAL_DAYS:
        return [_SPECIAL_DAYS[base.upper()]]
    first, is_range, last = base.partition("-")
    if base == "*":
        start, end = field.low, field.high
    elif is_range:
        start, end = _value(field, first), _value(field, last)
    else:
        start = _value(field, base)
        end = field.high if has_step else start
    if end < start:
        end += field.size
    values = range(start, end + 1, int(step or 1))
    return [field.low + (value - field.low) % field.size for value in values]


def _value(field: _Field, text: str) -> int:
    if text.upper() in field.names:
        return field.low + field.names.index(text.upper())
    if not _is_number(text) or not field.low <= int(text) <= field.high:
        raise _wrong_value(field, text)
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _wrong_value(field: _Field, text: str) -> InvalidSchedule:
    value = repr(text) if text else "an empty value"
    article = "an" if field is _HOUR else "a"
    return _error(f"{value} is not {article} {field.name}; write {field.allowed}")


def _wrong_step(field: _Field, part: str) -> InvalidSchedule:
    step = part.partition("/")[2]
    advice = ", as in */2"
    if field.unit is not None and _is_number(step) and int(step) > field.size:
        count, unit = field.unit
        advice = f"; write @every {count * int(step)}{unit} instead"
    return _error(f"{part!r}: the step in the {field.name} must be 1 to {field.size}{advice}")


def _error(reason: str) -> InvalidSchedule:
    return InvalidSchedule("cron", reason)


def _is_possible(days: _Days, months: Iterable[int]) -> bool:
    return any(
        _matching_days(days, first_weekday, length)
        for month in months
        for length in _MONTH_LENGTHS.get(month, (31,))
        for first_weekday in range(7)
    )


def _first_from(start: int, values: Sequence[int]) -> int | None:
    index = bisect_left(values, start)
    return values[index] if index < len(values) else None


@lru_cache(maxsize=8192)
def _matching_days(days: _Days, first_weekday: int, length: int) -> Sequence[int]:
    """Return the days of a month that match, by the weekday of its first day and its length."""
    last_weekday = (first_weekday + length - 1) % 7
    last_workday = length - {6: 1, 0: 2}.get(last_weekday, 0)  # the Friday before a weekend
    found = []
    for day in range(1, length + 1):
        weekday = (first_weekday + day - 1) % 7
        by_month = (
            day in days.of_month
            or (day == length and _LAST_DAY in days.of_month)
            or (day == last_workday and _LAST_WORKDAY in days.of_month)
        )
        by_week = (
            (weekday, _EVERY_WEEK) in days.of_week
            or (weekday, (day + 6) // 7) in days.of_week
            or (day + 7 > length and (weekday, _LAST_WEEK) in days.of_week)
        )
        if (by_month and by_week) if days.need_both else (by_month or by_week):
            found.append(day)
    return tuple(found)
