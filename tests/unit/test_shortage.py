from __future__ import annotations

import logging

import pytest

from poussetaches.engine.shortage import PLENTY, REPORTED_FOR, STEP, Shortage
from tests.fakes import NO_DESCRIPTORS, NO_PORTS, FakeClock

MOST = 100


@pytest.fixture
def shortage(clock: FakeClock) -> Shortage:
    return Shortage(clock, in_flight=lambda: 5)


def test_without_a_shortage_nothing_is_limited(shortage: Shortage) -> None:
    assert shortage.most_in_flight(MOST) == MOST
    assert shortage.next_step_at(MOST) is None
    assert shortage.pause_ends_at is None
    assert shortage.error is None


def test_nothing_starts_for_a_second(shortage: Shortage, clock: FakeClock) -> None:
    ends_at = clock.monotonic() + STEP
    shortage.met(NO_DESCRIPTORS)

    assert shortage.most_in_flight(MOST) == 0
    assert shortage.pause_ends_at == shortage.next_step_at(MOST) == ends_at


def test_as_many_as_fitted_go_on_and_twice_as_many_with_each_second(
    shortage: Shortage, clock: FakeClock
) -> None:
    shortage.met(NO_DESCRIPTORS)
    seen = []

    while shortage.next_step_at(MOST) is not None:
        clock.advance(STEP)
        seen.append(shortage.most_in_flight(MOST))

    assert seen == [5, 10, 20, 40, 80, 100]
    assert shortage.pause_ends_at is None


def test_limit_is_over_after_a_long_time(shortage: Shortage, clock: FakeClock) -> None:
    shortage.met(NO_DESCRIPTORS)

    clock.advance(3600)

    assert shortage.most_in_flight(PLENTY) == PLENTY


def test_one_attempt_is_made_where_none_fitted(clock: FakeClock) -> None:
    shortage = Shortage(clock, in_flight=lambda: 0)
    shortage.met(NO_DESCRIPTORS)

    clock.advance(STEP)

    assert shortage.most_in_flight(MOST) == 1


def test_shortage_that_is_met_again_begins_anew(shortage: Shortage, clock: FakeClock) -> None:
    shortage.met(NO_DESCRIPTORS)
    clock.advance(3 * STEP)

    shortage.met(NO_DESCRIPTORS)

    assert shortage.most_in_flight(MOST) == 0


def test_shortage_towards_one_destination_is_reported_and_stops_nothing(
    shortage: Shortage,
) -> None:
    shortage.met(NO_PORTS)

    assert shortage.error == "no local port"
    assert shortage.most_in_flight(MOST) == MOST


def test_shortage_is_reported_for_a_minute(shortage: Shortage, clock: FakeClock) -> None:
    shortage.met(NO_DESCRIPTORS)

    clock.advance(REPORTED_FOR - 1)
    assert shortage.error == "Too many open files"
    clock.advance(1)
    assert shortage.error is None


def test_shortage_is_logged_once_a_minute(
    shortage: Shortage, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(121):
            shortage.met(NO_DESCRIPTORS)
            clock.advance(1)

    assert len(caplog.records) == 3
