from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from importlib import resources
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from poussetaches.core.crontab import read_crontab
from poussetaches.core.local_time import next_due
from tests.tzif import read_changes

DAY = timedelta(days=1)
BERLIN, LORD_HOWE, CHATHAM = "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Chatham"
SANTIAGO, SAO_PAULO, APIA = "America/Santiago", "America/Sao_Paulo", "Pacific/Apia"


def due(line: str, zone_name: str, first_day: str, last_day: str) -> list[str]:
    """Return when a line is due on some local days, with the distance from UTC."""
    zone = ZoneInfo(zone_name)
    at = datetime.fromisoformat(first_day).replace(tzinfo=zone).astimezone(UTC)
    at -= timedelta(microseconds=1)
    end = datetime.fromisoformat(last_day).replace(tzinfo=zone) + DAY
    found = []
    while (upcoming := next_due(read_crontab(line), zone, at)) is not None and upcoming < end:
        local = upcoming.astimezone(zone)
        found.append(local.strftime("%d %H:%M:%S%z").replace(":00+", "+").replace(":00-", "-"))
        at = upcoming
    return found


@pytest.mark.parametrize(
    ("line", "zone", "days", "expected"),
    [
        # 02:00 to 03:00 is skipped.
        ("0 30 2 * * *", BERLIN, "2027-03-28", ["28 03:00+0200"]),
        ("15 30 2 * * *", BERLIN, "2027-03-28", ["28 03:00+0200"]),
        ("*/20 30 2 * * *", BERLIN, "2027-03-28", ["28 03:00+0200"]),
        ("0 30 2,3 * * *", BERLIN, "2027-03-28", ["28 03:00+0200", "28 03:30+0200"]),
        ("0 0,30 2 * * 0", BERLIN, "2027-03-28", ["28 03:00+0200"]),
        # 02:00 to 03:00 is shown twice.
        ("0 30 2 * * *", BERLIN, "2027-10-31", ["31 02:30+0200"]),
        ("30 30 2 * * *", BERLIN, "2027-10-31", ["31 02:30:30+0200"]),
        ("*/30 30 2 * * *", BERLIN, "2027-10-31", ["31 02:30+0200", "31 02:30:30+0200"]),
        ("0 2 * * *", BERLIN, "2027-10-31", ["31 02:00+0200"]),
        ("0 3 * * *", BERLIN, "2027-10-31", ["31 03:00+0100"]),
        # 00:00 to 01:00 is skipped: the day has no midnight.
        ("0 0 * * 0", SANTIAGO, "2027-09-05", ["05 01:00-0300"]),
        ("0 0 1 * * 0", SANTIAGO, "2027-09-05", ["05 01:00-0300"]),
        ("0 0 1 5 * *", SANTIAGO, "2027-09-05", ["05 01:00-0300"]),
        ("0 */6 5 9 *", SANTIAGO, "2027-09-05", [f"05 {h:02}:00-0300" for h in (6, 12, 18)]),
        ("0 0 * * *", SAO_PAULO, "2018-11-04", ["04 01:00-0200"]),
        ("0 0 * * *", "Asia/Beirut", "2024-03-31", ["31 01:00+0300"]),
        ("0 0 * * *", "Africa/Cairo", "2024-04-26", ["26 01:00+0300"]),
        ("0 0 * * *", "America/Asuncion", "2023-10-01", ["01 01:00-0300"]),
        # 23:00 to 24:00 is shown twice.
        ("30 23 * * *", SAO_PAULO, "2018-02-17", ["17 23:30-0200"]),
        ("30 23 * * *", "Africa/Cairo", "2024-10-31", ["31 23:30+0300"]),
        ("30 * * 31 10 *", "Africa/Cairo", "2024-10-31", 25 * 60),
        # 23:01 to 00:01 is shown twice, a minute of the next day among it.
        ("0 0 * * *", "America/St_Johns", "2008-11-02", ["02 00:00-0230"]),
        ("30 23 * * *", "America/St_Johns", "2008-11-01", ["01 23:30-0230"]),
        ("0 0 2 11 *", "America/St_Johns", "2008-11-02", ["02 00:00-0230"]),
        ("*/30 0 2 11 *", "America/St_Johns", "2008-11-02", 3),
        # Half an hour: 02:00 to 02:30 is skipped, 01:30 to 02:00 shown twice.
        ("15 2 * * *", LORD_HOWE, "2027-10-03", ["03 02:30+1100"]),
        ("45 1 * * *", LORD_HOWE, "2027-04-04", ["04 01:45+1100"]),
        ("45 1,2 * * *", LORD_HOWE, "2027-04-04", ["04 01:45+1100", "04 02:45+1030"]),
        ("45 * 4 4 *", LORD_HOWE, "2027-04-04", 25),
        ("15 * 3 10 *", LORD_HOWE, "2027-10-03", 23),
        # At a quarter to: 02:45 to 03:45.
        ("0 3 * * *", CHATHAM, "2027-09-26", ["26 03:45+1345"]),
        ("0 3 * * *", CHATHAM, "2027-04-04", ["04 03:00+1345"]),
        (
            *("*/45 3 4 4 *", CHATHAM, "2027-04-04"),
            ["04 03:00+1345", "04 03:00+1245", "04 03:45+1245"],
        ),
        # Two hours, from 01:00 on.
        ("30 1 * * *", "Antarctica/Troll", "2024-03-31", ["31 03:00+0200"]),
        ("30 2 * * *", "Antarctica/Troll", "2024-10-27", ["27 02:30+0200"]),
        # Summer time is the standard one in Dublin, and Ramadan ends it in Casablanca.
        ("30 1 * * *", "Europe/Dublin", "2024-03-31", ["31 02:00+0100"]),
        ("30 1 * * *", "Europe/Dublin", "2024-10-27", ["27 01:30+0100"]),
        ("30 2 * * *", "Africa/Casablanca", "2024-03-10", ["10 02:30+0100"]),
        ("30 2 * * *", "Africa/Casablanca", "2024-04-14", ["14 03:00+0100"]),
        # A quarter of an hour, at midnight; and once 44 minutes and a half.
        ("0 0 1 1 *", "Asia/Kathmandu", "1986-01-01", ["01 00:15+0545"]),
        ("*/20 0 1 1 *", "Asia/Kathmandu", "1986-01-01", ["01 00:20+0545", "01 00:40+0545"]),
        ("10 0 * * *", "Africa/Monrovia", "1972-01-07", ["07 00:44:30+0000"]),
        # A whole day.
        ("0 12 30 12 *", APIA, "2011-12-31", ["31 00:00+1400"]),
        ("0 0 * * *", APIA, "2011-12-31", ["31 00:00+1400"]),
        ("0 3 * * *", APIA, "2011-12-31", ["31 00:00+1400", "31 03:00+1400"]),
        ("0 */3 * * 5", APIA, "2011-12-31", []),
    ],
)
def test_change_of_the_clock(line: str, zone: str, days: str, expected: list[str] | int) -> None:
    found = due(line, zone, days, days)

    assert found == expected or len(found) == expected, found


@pytest.mark.parametrize("line", ["0 0 * * 0", "0 0 1 * * 0", "0 0 1 5 * *", "*/30 * 5 * *"])
def test_day_without_midnight_is_found_from_days_before(line: str) -> None:
    after = datetime(2027, 9, 3, tzinfo=UTC)

    found = next_due(read_crontab(line), ZoneInfo(SANTIAGO), after)

    assert found == datetime(2027, 9, 5, 4, tzinfo=UTC)  # 01:00 there


def test_no_run_is_lost_between_two_days_around_a_skipped_one() -> None:
    found = due("0 0 * * *", APIA, "2011-12-29", "2012-01-01")

    assert found == ["29 00:00-1000", "31 00:00+1400", "01 00:00+1400"]


@pytest.mark.parametrize(
    ("line", "zone"),
    [
        pytest.param("*/45 3 4 4 *", CHATHAM, id="once a year"),
        pytest.param("0 0 29 2 *", BERLIN, id="leap day"),
        pytest.param("*/5 0 29 2 */7", BERLIN, id="leap day on a Sunday"),
        pytest.param("* * * * * *", BERLIN, id="each second"),
        # New York's clocks skip this hour every year.
        pytest.param("*/5 2 8-14 3 */7", "America/New_York", id="never"),
        pytest.param("* * 2 8-14 3 */7", "America/New_York", id="never, by seconds"),
    ],
)
def test_search_is_short(line: str, zone: str) -> None:
    """Counted in looks at the zone, which is what a search consists of."""
    counting = CountingZone(ZoneInfo(zone))
    at = datetime(2027, 1, 1, tzinfo=UTC)

    for _ in range(5):
        counting.looks = 0
        found = next_due(read_crontab(line), counting, at)
        assert counting.looks < 2_500
        at = found or at


class CountingZone(tzinfo):
    """A time zone that counts how often it is asked."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self.looks = 0

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        return None if at is None else at.replace(tzinfo=self._zone).utcoffset()

    def dst(self, at: datetime | None) -> timedelta | None:
        return None if at is None else at.replace(tzinfo=self._zone).dst()

    def tzname(self, at: datetime | None) -> str | None:
        return None if at is None else at.replace(tzinfo=self._zone).tzname()

    def fromutc(self, at: datetime) -> datetime:
        self.looks += 1
        return self._zone.fromutc(at.replace(tzinfo=self._zone)).replace(tzinfo=self)


def test_line_that_is_always_skipped_is_never_due() -> None:
    found = next_due(
        read_crontab("*/5 2 8-14 3 */7"),
        ZoneInfo("America/New_York"),
        datetime(2027, 1, 1, tzinfo=UTC),
    )

    assert found is None


def test_no_zone_moves_its_clock_further_or_more_often_than_the_search_expects() -> None:
    """It looks at both ends of two days, and for one change between them."""
    names = resources.files("tzdata").joinpath("zones").read_text("utf-8").split()
    assert len(names) > 500
    for name in names:
        moments, offsets = read_changes(name)
        assert max(offsets) - min(offsets) < 2 * DAY, name
        assert all(abs(after - before) <= DAY for before, after in pairwise(offsets)), name
        assert all(later - earlier > 2 * DAY for earlier, later in pairwise(moments)), name
