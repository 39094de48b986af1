from __future__ import annotations

import pytest

from poussetaches.core.moment import DAY, HOUR, MINUTE, SECOND, ClockReading, Moment
from poussetaches.engine.confirmed_time import ConfirmedTime
from tests.factories import NOW

BOOT = "a boot"


def reading(uptime: int, ahead: int = 0) -> ClockReading:
    """Return what the clocks read after some time, on a wall clock that is ahead."""
    return ClockReading(Moment(NOW + uptime + ahead), uptime)


def confirmed(*readings: ClockReading) -> list[int]:
    """Return how far the confirmed time is ahead of the true one at each reading."""
    time = ConfirmedTime(readings[0])
    return [time.at(each) - NOW - each.uptime for each in readings]


def test_clock_that_is_not_set_is_confirmed() -> None:
    assert confirmed(reading(0), reading(7), reading(9 * DAY)) == [0, 0, 0]


def test_clock_that_was_set_ahead_is_confirmed_an_hour_later() -> None:
    found = confirmed(
        reading(0),
        reading(MINUTE, ahead=DAY),
        reading(MINUTE + HOUR - 1, ahead=DAY),
        reading(MINUTE + HOUR, ahead=DAY),
    )

    assert found == [0, 0, 0, DAY]


def test_clock_that_was_set_back_is_confirmed_at_once() -> None:
    assert confirmed(reading(0), reading(1, ahead=-DAY)) == [0, -DAY]


def test_clock_that_was_behind_for_a_moment_is_confirmed_an_hour_after_it() -> None:
    found = confirmed(
        reading(0),
        reading(1, ahead=-DAY),
        reading(2),
        reading(HOUR + 1),
        reading(HOUR + 2),
    )

    assert found == [0, -DAY, -DAY, -DAY, 0]


def test_leap_that_was_undone_confirms_nothing() -> None:
    found = confirmed(
        reading(0),
        reading(1, ahead=DAY),
        reading(HOUR // 2),
        reading(HOUR, ahead=DAY),
        reading(2 * HOUR - 1, ahead=DAY),
        reading(2 * HOUR, ahead=DAY),
    )

    assert found == [0, 0, 0, 0, 0, DAY]


def test_each_leap_has_its_own_hour() -> None:
    found = confirmed(
        reading(0),
        reading(1, ahead=DAY),
        reading(HOUR // 2, ahead=2 * DAY),
        reading(HOUR + 1, ahead=2 * DAY),
        reading(HOUR + HOUR // 2, ahead=2 * DAY),
    )

    assert found == [0, 0, 0, DAY, 2 * DAY]


def test_clock_that_nobody_looked_at_is_not_confirmed_by_the_first_look() -> None:
    """As after the machine slept for a day, and its clock was set ahead as it woke."""
    assert confirmed(reading(0), reading(DAY, ahead=DAY)) == [0, 0]


def test_small_corrections_are_no_leaps() -> None:
    found = confirmed(*(reading(n, ahead=n % 3 * SECOND // 3) for n in range(100)))

    assert max(found) < SECOND


# Over a restart


def recalled(before: ConfirmedTime, at: ClockReading, *, boot_id: str = BOOT) -> ConfirmedTime:
    record = before.record(at, boot_id=BOOT)
    return ConfirmedTime.recalled(record, at, boot_id=boot_id, latest=None)


def test_restart_does_not_confirm_a_leap() -> None:
    before = ConfirmedTime(reading(0))
    before.at(reading(1, ahead=DAY))

    after = recalled(before, reading(MINUTE, ahead=DAY))

    assert after.at(reading(MINUTE, ahead=DAY)) == NOW + MINUTE
    assert after.at(reading(MINUTE + HOUR, ahead=DAY)) == NOW + MINUTE + HOUR + DAY


def test_leap_while_no_server_ran_is_noticed() -> None:
    record = ConfirmedTime(reading(0)).record(reading(0), boot_id=BOOT)

    later = reading(DAY, ahead=DAY)
    after = ConfirmedTime.recalled(record, later, boot_id=BOOT, latest=NOW)

    assert after.at(later) == NOW + DAY


@pytest.mark.parametrize("boot_id", ["another", ""])
def test_time_for_which_the_machine_was_off_is_confirmed_after_an_hour(boot_id: str) -> None:
    record = ConfirmedTime(reading(0)).record(reading(0), boot_id=boot_id and BOOT)
    latest = Moment(NOW - DAY)

    after = ConfirmedTime.recalled(record, reading(5), boot_id=boot_id, latest=latest)

    assert after.at(reading(5)) == latest
    assert after.at(reading(65)) == latest + 60
    assert after.at(reading(HOUR + 5)) == NOW + HOUR + 5


def test_restart_of_the_machine_does_not_confirm_a_leap_that_is_in_the_store() -> None:
    before = ConfirmedTime(reading(0))
    before.at(reading(1, ahead=DAY))
    record = before.record(reading(MINUTE, ahead=DAY), boot_id=BOOT)
    latest = Moment(NOW + MINUTE + DAY)

    after = ConfirmedTime.recalled(record, reading(5, ahead=DAY), boot_id="new", latest=latest)

    assert after.at(reading(5, ahead=DAY)) == NOW + MINUTE


def test_store_of_a_time_still_to_come_confirms_nothing() -> None:
    latest = Moment(NOW + DAY)

    after = ConfirmedTime.recalled(None, reading(0), boot_id=BOOT, latest=latest)

    assert after.at(reading(0)) == NOW


def test_new_store_trusts_the_clock() -> None:
    after = ConfirmedTime.recalled(None, reading(0), boot_id=BOOT, latest=None)

    assert after.at(reading(0)) == NOW


# What is kept for an age is dated by the latest that it can be


def test_clock_that_was_set_back_may_be_wrong_for_an_hour() -> None:
    time = ConfirmedTime(reading(0))
    at = [0, 1, HOUR, HOUR + 1]
    behind = [0, -DAY, -DAY, -DAY]

    found = [
        time.latest_possible(reading(uptime, ahead)) - NOW - uptime
        for uptime, ahead in zip(at, behind, strict=True)
    ]

    assert found == [0, 0, 0, -DAY]


def test_leap_ahead_that_was_undone_makes_nothing_later() -> None:
    time = ConfirmedTime(reading(0))
    time.at(reading(1, ahead=DAY))

    assert time.latest_possible(reading(2)) == NOW + 2


def test_machine_that_starts_in_1970_is_dated_by_its_store() -> None:
    at_start = ClockReading(Moment(5), 5)

    time = ConfirmedTime.recalled(None, at_start, boot_id="", latest=NOW)

    assert (time.at(at_start), time.latest_possible(at_start)) == (5, NOW)


# What was confirmed once


def test_time_that_stood_for_an_hour_was_confirmed_whatever_came_then() -> None:
    time = ConfirmedTime(reading(0))
    found = [
        time.latest(each)
        for each in (reading(HOUR - 1), reading(HOUR), reading(HOUR + 1, ahead=-DAY))
    ]

    assert found == [None, NOW + HOUR, NOW + HOUR + 1]


def test_time_of_a_leap_that_was_undone_was_never_confirmed() -> None:
    time = ConfirmedTime(reading(0))
    time.at(reading(HOUR))
    time.at(reading(2 * HOUR, ahead=DAY))

    assert time.latest(reading(2 * HOUR + MINUTE)) == NOW + 2 * HOUR + MINUTE
    assert recalled(time, reading(3 * HOUR)).latest(reading(3 * HOUR)) == NOW + 3 * HOUR
