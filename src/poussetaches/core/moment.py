"""Moments: points of wall-clock time in whole microseconds, so that rounding is predictable.

A ``Moment`` is kept apart from other integers by the type checker: the only way to a later one
is ``later``, which rounds up, because a task must never start early.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, NewType

import msgspec

Moment = NewType("Moment", int)  # microseconds since 1970-01-01 UTC

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ClockReading(NamedTuple):
    """The wall clock and the machine's uptime (microseconds, suspends included), read together."""

    now: Moment
    uptime: int

    @property
    def booted_at(self) -> Moment:
        """The machine's boot time by the wall clock; it changes only when that clock is set."""
        return Moment(self.now - self.uptime)


class ClockRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The clock's state that the store keeps, as boot times by the wall clock."""

    boot_id: str  # identifies the machine and its boot; empty if the system has no such id
    seen: Moment  # by the last reading
    confirmed: Moment  # by the confirmed time
    highest: Moment | None  # by the latest time that was ever confirmed; None if unknown


def later(moment: Moment, seconds: float) -> Moment:
    """Return the moment that comes ``seconds`` after another, rounded up to a microsecond."""
    return Moment(moment + math.ceil(seconds * SECOND))


def seconds_between(earlier: Moment, later: Moment) -> float:
    """Return the seconds from one moment to another; negative if they go backwards."""
    return (later - earlier) / SECOND


def moment_of(time: datetime) -> Moment:
    """Return the moment of an aware datetime."""
    return Moment((time - _EPOCH) // timedelta(microseconds=1))


def datetime_of(moment: Moment) -> datetime:
    """Return a moment as an aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=moment)


def rfc3339(moment: Moment) -> str:
    """Return a moment as RFC 3339 text in UTC, to the microsecond."""
    second, microseconds = divmod(moment, SECOND)
    return "%s.%06dZ" % (_to_the_second(second), microseconds)  # noqa: UP031 - faster in long lists


@lru_cache(maxsize=1024)  # values that are shown together are often close in time
def _to_the_second(second: int) -> str:
    # Not strftime: some C libraries write the year 1 as "1".
    return (_EPOCH + timedelta(seconds=second)).replace(tzinfo=None).isoformat()
