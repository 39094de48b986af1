from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from poussetaches.core.crontab import check_steps, read_crontab
from poussetaches.core.errors import InvalidSchedule

MIDNIGHT = datetime(2026, 9, 1)  # a Tuesday


def days(line: str, *, month: int = 9) -> list[int]:
    """Return the days of a month of 2026 that match."""
    crontab, at = read_crontab(line), MIDNIGHT.replace(month=month)
    found = []
    while (match := crontab.first_from(at)) is not None and match.month == month:
        found.append(match.day)
        at = match.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [3]),
        ("003", [3]),
        ("1,5,3,5", [1, 3, 5]),
        ("1-5", [1, 2, 3, 4, 5]),
        ("5-5", [5]),
        ("*", list(range(24))),
        ("?", list(range(24))),
        ("*/6", [0, 6, 12, 18]),
        ("?/6", [0, 6, 12, 18]),
        ("9/5", [9, 14, 19]),
        ("8-18/5", [8, 13, 18]),
        ("5-5/2", [5]),
        ("22-4", [0, 1, 2, 3, 4, 22, 23]),
        ("22-4/2", [0, 2, 4, 22]),
        ("20-3/3", [2, 20, 23]),
        ("5-4", list(range(24))),
        ("*/24", [0]),
        ("22-23,1-2,12/6", [1, 2, 12, 18, 22, 23]),
    ],
)
def test_hours(text: str, expected: list[int]) -> None:
    assert list(read_crontab(f"0 {text} * * *").hours) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jan", [1]),
        ("JAN-mar", [1, 2, 3]),
        ("nov-feb", [1, 2, 11, 12]),
        ("11-2/2", [1, 11]),
        ("Jun,12", [6, 12]),
        ("*/5", [1, 6, 11]),
        ("feb/6", [2, 8]),
    ],
)
def test_months(text: str, expected: list[int]) -> None:
    assert list(read_crontab(f"0 0 1 {text} *").months) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", [6, 13, 20, 27]),
        ("7", [6, 13, 20, 27]),
        ("sun", [6, 13, 20, 27]),
        ("mon,Wed", [2, 7, 9, 14, 16, 21, 23, 28, 30]),
        ("5-7", [4, 5, 6, 11, 12, 13, 18, 19, 20, 25, 26, 27]),
        ("fri-sun", [4, 5, 6, 11, 12, 13, 18, 19, 20, 25, 26, 27]),
        ("6-1", [5, 6, 7, 12, 13, 14, 19, 20, 21, 26, 27, 28]),
        ("sat-mon/2", [5, 7, 12, 14, 19, 21, 26, 28]),
        ("7-1", [6, 7, 13, 14, 20, 21, 27, 28]),
        ("0-7", list(range(1, 31))),
        ("1-7/3", [3, 6, 7, 10, 13, 14, 17, 20, 21, 24, 27, 28]),  # 1, 4 and 7
        ("*/7", [6, 13, 20, 27]),
        ("2/5", [1, 6, 8, 13, 15, 20, 22, 27, 29]),  # 2 and 7
        ("mon#1", [7]),
        ("mon#01", [7]),
        ("1#2,5L", [14, 25]),
        ("0#1,7#3", [6, 20]),
        ("2#5", [29]),
        ("3#5,friL", [25, 30]),
    ],
)
def test_weekdays(text: str, expected: list[int]) -> None:
    assert days(f"0 0 * * {text}") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L", [30]),
        ("l", [30]),
        ("15,L", [15, 30]),
        ("LW", [30]),
        ("28-3", [1, 2, 3, 28, 29, 30]),
        ("*/14", [1, 15, 29]),
        ("31", []),
    ],
)
def test_days(text: str, expected: list[int]) -> None:
    assert days(f"0 0 {text} * *") == expected


@pytest.mark.parametrize(
    ("month", "last"), [(1, 30), (2, 27), (3, 31), (5, 29), (8, 31), (10, 30), (11, 30)]
)
def test_last_workday_is_never_in_a_weekend(month: int, last: int) -> None:
    assert days("0 0 LW * *", month=month) == [last]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("0 0 13 * fri", [4, 11, 13, 18, 25], id="both given: either is enough"),
        pytest.param("0 0 1-7 * 1", [*range(1, 8), 14, 21, 28], id="a range is given"),
        pytest.param("0 0 30 2-9 mon", [7, 14, 21, 28, 30], id="months"),
        pytest.param("0 0 */2 * mon", [7, 21], id="begins with a star: both must match"),
        pytest.param("0 0 1-7 * */7", [6], id="the first Sunday"),
        pytest.param("0 0 L * 3#5", [30], id="last day or fifth Wednesday"),
    ],
)
def test_day_of_the_month_and_weekday(line: str, expected: list[int]) -> None:
    assert days(line) == expected


@pytest.mark.parametrize(
    ("line", "by_elapsed_time"),
    [
        ("30 2 * * *", False),
        ("30,45 2-4 * * *", False),
        ("* 30 2 * * *", False),
        ("*/5 30 2 */2 */2 *", False),
        ("* 2 * * *", True),
        ("*/15 2 * * *", True),
        ("0 * * * *", True),
        ("0 ? * * *", True),
        ("0 0 * * * *", True),
        ("0 */2 * * *", True),
        ("0/15 2 * * *", True),
        ("0 8-18/2 * * *", True),
        ("7,*/20 2 * * *", True),
    ],
)
def test_star_or_step_in_minute_or_hour_goes_by_elapsed_time(
    line: str, by_elapsed_time: bool
) -> None:
    assert read_crontab(line).by_elapsed_time is by_elapsed_time


@pytest.mark.parametrize(
    ("line", "start", "expected"),
    [
        ("30 2 * * *", "2026-09-01 02:30", "2026-09-01 02:30"),
        ("30 2 * * *", "2026-09-01 02:30:01", "2026-09-02 02:30"),
        ("5,30 2,7 * * *", "2026-09-01 02:31", "2026-09-01 07:05"),
        ("5,30 2,7 * * *", "2026-09-01 03:10", "2026-09-01 07:05"),
        ("15 5 2 * * *", "2026-09-01 02:05:14", "2026-09-01 02:05:15"),
        ("15 5-6 2 * * *", "2026-09-01 02:05:16", "2026-09-01 02:06:15"),
        ("0 0 1 1 *", "2026-01-01 00:01", "2027-01-01"),
        ("0 0 31 * *", "2026-01-31 00:01", "2026-03-31"),
        ("0 0 29 2 *", "2097-01-01", "2104-02-29"),
        ("0 0 29 2 */7", "2088-03-01", "2128-02-29"),
        ("0 0 * * *", "9999-12-31 00:00:01", None),
    ],
)
def test_first_match(line: str, start: str, expected: str | None) -> None:
    found = read_crontab(line).first_from(datetime.fromisoformat(start))

    assert found == (None if expected is None else datetime.fromisoformat(expected))


MINUTE = "is not a minute; write 0 to 59, as in 30, 0-29 or */15"
HOUR = "is not an hour; write 0 to 23, as in 3, 22-4 or */2"
DAY = "is not a day of the month; write 1 to 31, L (the last day) or LW (the last day from Monday"
MONTH = "is not a month; write 1 to 12 or jan to dec, as in 6 or nov-feb"
WEEKDAY = "is not a weekday; write 0 to 7 (0 and 7 are Sunday) or sun to sat, as in mon-fri, 1#2"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("* * * *", "'* * * *' is not a schedule; write five fields (minute hour day month"),
        ("* * * * * * *", "is not a schedule; write five fields"),
        ("60 * * * *", f"'60' {MINUTE}"),
        ("60 * * * * *", "'60' is not a second; write 0 to 59"),
        ("-5 * * * *", f"an empty value {MINUTE}"),
        ("5- * * * *", f"an empty value {MINUTE}"),
        ("1,,2 * * * *", f"an empty value {MINUTE}"),
        ("1.5 * * * *", f"'1.5' {MINUTE}"),
        ("\u0665 * * * *", f"'\u0665' {MINUTE}"),
        ("* 24 * * *", f"'24' {HOUR}"),
        ("* 3pm * * *", f"'3pm' {HOUR}"),
        ("* 2-26 * * *", f"'26' {HOUR}"),
        ("* L * * *", f"'L' {HOUR}"),
        ("* * 0 * *", f"'0' {DAY}"),
        ("* * 15W * *", f"'15W' {DAY}"),
        ("* * L-3 * *", f"'L' {DAY}"),
        ("* * * 13 *", f"'13' {MONTH}"),
        ("* * * january *", f"'january' {MONTH}"),
        ("* * * * 8", f"'8' {WEEKDAY}"),
        ("* * * * funday", f"'funday' {WEEKDAY}"),
        ("* * * * 1#6", f"'1#6' {WEEKDAY}"),
        ("* * * * 1#1/2", f"'1#1/2' {WEEKDAY}"),
        ("* * * * L", f"an empty value {WEEKDAY}"),
        ("*/0 * * * *", "'*/0': the step in the minute must be 1 to 60, as in */2"),
        ("*/ * * * *", "'*/': the step in the minute must be 1 to 60, as in */2"),
        ("* */-1 * * *", "'*/-1': the step in the hour must be 1 to 24, as in */2"),
        ("* * * * 1/2/3", "'1/2/3': the step in the weekday must be 1 to 7, as in */2"),
        ("0 0 30 2 *", "'0 0 30 2 *' never matches: none of its months has such a day; write L"),
        ("0 0 31 4,6,9,11 *", "never matches: none of its months has such a day"),
        ("0 0 */31 * mon#2", "never matches: no date has both its day of the month and its"),
        ("0 0 LW * */6", "never matches: no date has both its day of the month and its weekday"),
    ],
)
def test_line_that_cannot_be_read_is_refused(line: str, message: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        read_crontab(line)

    assert caught.value.field == "cron"
    assert caught.value.reason.startswith(message) or f" {message}" in caught.value.reason


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("*/90 * * * *", "'*/90': the step in the minute must be 1 to 60; write @every 90m"),
        ("*/90 * * * * *", "'*/90': the step in the second must be 1 to 60; write @every 90s"),
        ("0 5,*/36 * * *", "'*/36': the step in the hour must be 1 to 24; write @every 36h"),
        ("0 0 1/45 * *", "the step in the day of the month must be 1 to 31; write @every 1080h"),
        ("0 0 1 */18 *", "'*/18': the step in the month must be 1 to 12, as in */2"),
        ("0 0 * * */14", "'*/14': the step in the weekday must be 1 to 7, as in */2"),
        ("0-29/90 * * * *", "'0-29/90': the step in the minute must be 1 to 60; write @every 90m"),
        ("0 0 L/5 * *", "'L/5': L takes no step; write L alone"),
        ("0 0 1,lw/2 * *", "'lw/2': LW takes no step; write LW alone"),
    ],
)
def test_step_without_effect_is_refused_for_a_new_schedule(line: str, message: str) -> None:
    read_crontab(line)

    with pytest.raises(InvalidSchedule) as caught:
        check_steps(line)

    assert message in caught.value.reason


@pytest.mark.parametrize(
    "line", ["*/60 * * * *", "*/45 */24 */31 */12 */7", "*/60 * * * * *", "0 0 L 1-12/2 mon#1"]
)
def test_step_that_fits_its_field_is_taken(line: str) -> None:
    check_steps(line)
