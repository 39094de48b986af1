"""Due times of crontab lines, compared with the slow model of ``tests/slow_crontab.py``."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.core.crontab import read_crontab
from poussetaches.core.errors import InvalidSchedule
from poussetaches.core.local_time import next_due
from tests.effort import LONG
from tests.slow_crontab import DAY, MINUTE, SECOND, Line, changes, numbers, utc, walk

# By the first and the last year. The model starts on 15 January, when no clock changes.
ZONES = {
    "Europe/Berlin": (2026, 2028),
    "Europe/London": (2024, 2026),
    "Europe/Dublin": (2024, 2026),
    "America/New_York": (2025, 2027),
    "America/Havana": (2025, 2026),
    "America/Santiago": (2026, 2028),
    "America/Asuncion": (2022, 2024),
    "America/Sao_Paulo": (2016, 2018),
    "America/St_Johns": (2008, 2011),
    "Africa/Cairo": (2010, 2014),
    "Africa/Casablanca": (2023, 2025),
    "Asia/Beirut": (2023, 2025),
    "Asia/Gaza": (2024, 2024),
    "Asia/Kathmandu": (1985, 1986),
    "Australia/Lord_Howe": (2026, 2028),
    "Pacific/Apia": (2010, 2012),
    "Pacific/Chatham": (2026, 2028),
    "Pacific/Kwajalein": (1993, 1994),
    "Antarctica/Troll": (2024, 2026),
}
AROUND = timedelta(hours=36)  # before and after a change

ONE, TWO = frozenset({1}), frozenset({2})
LINES = [
    Line("0 0 * * *", minutes=frozenset({0}), hours=frozenset({0})),
    Line("30 2 * * *", minutes=frozenset({30}), hours=TWO),
    Line(
        "0,45 1-3 * * 0", minutes=frozenset({0, 45}), hours=numbers(1, 3), weekdays=numbers(7, 7)
    ),
    Line("30 22-1 * * *", minutes=frozenset({30}), hours=frozenset({22, 23, 0, 1})),
    Line("0 3 1 * *", minutes=frozenset({0}), hours=frozenset({3}), days=ONE),
    Line("45 * * * *", minutes=frozenset({45}), by_elapsed_time=True),
    Line("*/20 2 * * *", minutes=frozenset({0, 20, 40}), hours=TWO, by_elapsed_time=True),
    Line(
        "0 */2 * * 0",
        minutes=frozenset({0}),
        hours=frozenset(range(0, 24, 2)),
        weekdays=numbers(7, 7),
        by_elapsed_time=True,
    ),
]


@cache
def changes_of(zone_name: str) -> list[datetime]:
    first, last = ZONES[zone_name]
    start, end = utc(f"{first}-01-15"), utc(f"{last + 1}-01-15")
    return list(changes(ZoneInfo(zone_name), start, end))


def found(line: Line, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    crontab = read_crontab(line.text)
    due, at = [], next_due(crontab, zone, start - SECOND)
    while at is not None and at < end:
        due.append(at)
        at = next_due(crontab, zone, at)
    return due


@pytest.mark.timeout(600)
@pytest.mark.parametrize("zone_name", ZONES)
def test_line_is_due_as_a_walk_by_minutes_finds(zone_name: str) -> None:
    zone, (first, last) = ZoneInfo(zone_name), ZONES[zone_name]
    spans = [(at - AROUND, at + AROUND) for at in changes_of(zone_name)]
    if LONG:
        spans = [(utc(f"{first}-01-15"), utc(f"{last + 1}-01-15"))]
    assert spans

    for start, end in spans:
        expected = walk(LINES, zone, start, end, step=MINUTE)
        for line, due in zip(LINES, expected, strict=True):
            assert found(line, zone, start, end) == due, line.text


class Field(NamedTuple):
    """A field's text and values, and whether it has a star or a step."""

    text: str
    values: frozenset[int]
    is_open: bool


def lists(first: int, last: int) -> st.SearchStrategy[Field]:
    return st.lists(st.integers(first, last), min_size=1, max_size=3).map(
        lambda many: Field(",".join(map(str, many)), frozenset(many), is_open=False)
    )


def fields(first: int, last: int) -> st.SearchStrategy[Field]:
    number = st.integers(first, last)
    step = st.integers(1, last - first + 1)
    ranges = st.builds(
        lambda start, end: Field(
            f"{start}-{end}",
            numbers(start, end) or numbers(start, last) | numbers(first, end),
            is_open=False,
        ),
        number,
        number,
    )
    stars = st.builds(
        lambda step: Field(f"*/{step}", frozenset(range(first, last + 1, step)), is_open=True),
        step,
    )
    tails = st.builds(
        lambda start, step: Field(
            f"{start}/{step}", frozenset(range(start, last + 1, step)), is_open=True
        ),
        number,
        step,
    )
    star = st.just(Field("*", numbers(first, last), is_open=True))
    few = lists(first, last)
    return few | few | ranges | stars | tails | star


def any_or(values: st.SearchStrategy[Field], first: int, last: int) -> st.SearchStrategy[Field]:
    """Return a star in most cases, so that lines are due often enough."""
    star = st.just(Field("*", numbers(first, last), is_open=True))
    return st.sampled_from([star, star, values]).flatmap(lambda chosen: chosen)


WEEKDAYS = st.sampled_from(
    [
        Field("0", frozenset({7}), is_open=False),
        Field("sun-mon", frozenset({7, 1}), is_open=False),
        Field("fri-sun", frozenset({5, 6, 7}), is_open=False),
        Field("1-6", numbers(1, 6), is_open=False),
        Field("*/2", frozenset({7, 2, 4, 6}), is_open=True),
    ]
)


@st.composite
def lines(draw: st.DrawFn, *, second: bool) -> Line:
    minute, hour = draw(fields(0, 59)), draw(fields(0, 23) | lists(0, 3))
    day, month = draw(any_or(fields(1, 31), 1, 31)), draw(any_or(fields(1, 12), 1, 12))
    weekday = draw(any_or(WEEKDAYS, 1, 7))
    texts = [field.text for field in (minute, hour, day, month, weekday)]
    seconds = frozenset({0})
    if second:
        text, seconds, _ = draw(fields(0, 59))
        texts.insert(0, text)
    return Line(
        " ".join(texts),
        seconds=seconds,
        minutes=minute.values,
        hours=hour.values,
        days=day.values,
        months=month.values,
        weekdays=weekday.values,
        either_day=not day.text.startswith("*") and not weekday.text.startswith("*"),
        by_elapsed_time=minute.is_open or hour.is_open,
    )


@st.composite
def places(draw: st.DrawFn) -> tuple[str, datetime]:
    """Return a zone and a moment: a change of its clock, or any other."""
    zone_name = draw(st.sampled_from(list(ZONES)))
    known = changes_of(zone_name)
    days = st.integers(0, 365).map(lambda count: known[0] + count * DAY)
    return zone_name, draw(st.sampled_from(known) | st.sampled_from(known) | days)


def check(line: Line, zone_name: str, *, start: datetime, end: datetime, step: timedelta) -> None:
    zone = ZoneInfo(zone_name)
    [expected] = walk([line], zone, start, end, step=step)
    try:
        actual = found(line, zone, start, end)
    except InvalidSchedule:  # such as 31 February
        actual = []
    assert actual == expected


@pytest.mark.timeout(600)
@given(lines(second=False), places())
def test_any_line_is_due_as_a_walk_by_minutes_finds(
    line: Line, place: tuple[str, datetime]
) -> None:
    zone_name, at = place
    check(line, zone_name, start=at - AROUND, end=at + AROUND, step=MINUTE)


@pytest.mark.timeout(600)
@given(lines(second=True), places())
def test_any_line_with_seconds_is_due_as_a_walk_by_seconds_finds(
    line: Line, place: tuple[str, datetime]
) -> None:
    zone_name, at = place
    check(line, zone_name, start=at - 20 * MINUTE, end=at + 100 * MINUTE, step=SECOND)
