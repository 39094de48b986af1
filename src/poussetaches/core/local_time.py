"""When the clocks of a time zone show the local times that a crontab line matches.

A line without ``*`` and without steps in the minute and the hour names fixed times. Each is due
once: when a clock first shows it, or first shows a later time because it was skipped. Other lines
go by elapsed time: they are due whenever a clock shows a matching time, so a skipped time is left
out, and one that is shown twice is due twice.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta, tzinfo

from poussetaches.core.crontab import YEARS, Crontab

_SECOND = timedelta(seconds=1)
# The offsets of a zone differ by less than this, and its clocks change at most once within it. A
# test checks both in the files of all time zones.
_SPAN = timedelta(days=2)


def next_due(crontab: Crontab, zone: tzinfo, after: datetime) -> datetime | None:
    """Return the first moment after ``after`` at which a line is due; None if none in 50 years."""
    second = after.replace(microsecond=0)
    if crontab.by_elapsed_time:
        return _next_shown(crontab, zone, second + _SECOND)
    local = crontab.first_from(_first_unseen(zone, second))
    return None if local is None else _first_reached(zone, local)


def _next_shown(crontab: Crontab, zone: tzinfo, start: datetime) -> datetime | None:
    """Return the first moment from ``start`` on at which a clock shows a matching time."""
    last_year = start.year + YEARS
    while start.year <= last_year:
        offset = _offset(zone, start)
        local = crontab.first_from(_naive(start) + offset)
        if local is None:
            return None
        # Clocks show it at this moment unless they change before.
        found = (local - offset).replace(tzinfo=UTC)
        end = min(found, start + _SPAN)
        if _offset(zone, end) != offset:
            start = _change(zone, start, end)
        elif end == found:
            return found
        else:
            # Offsets differ by less than the span, so no clock shows a match in between.
            start = max(end, found - _SPAN)
    return None


def _first_unseen(zone: tzinfo, second: datetime) -> datetime:
    """Return the earliest local time that clocks have neither shown nor skipped by a moment."""
    local = second.astimezone(zone)
    if not local.fold:
        return _naive(local) + _SECOND
    # The clock was set back: it had already shown this time, and later ones until the change.
    before = local.replace(fold=0).astimezone(UTC)
    return _naive(local) + (_change(zone, before, second) - before)


def _first_reached(zone: tzinfo, local: datetime) -> datetime:
    """Return the first moment at which a clock shows a local time or a later one."""
    found = local.replace(tzinfo=zone).astimezone(UTC)
    skipped = _naive(found.astimezone(zone)) - local
    # A skipped time is converted with the offset before the change, so the change came earlier.
    return _change(zone, found - skipped, found) if skipped else found


def _change(zone: tzinfo, start: datetime, end: datetime) -> datetime:
    """Return the moment of a change: the first whose offset differs from that of ``start``."""
    before = _offset(zone, start)
    seconds = bisect_left(
        range((end - start) // _SECOND),
        True,
        key=lambda second: _offset(zone, start + second * _SECOND) != before,
    )
    return start + seconds * _SECOND


def _offset(zone: tzinfo, at: datetime) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _naive(time: datetime) -> datetime:
    return time.replace(tzinfo=None, fold=0)
