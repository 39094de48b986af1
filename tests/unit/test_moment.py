from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.core.moment import (
    MINUTE,
    SECOND,
    Moment,
    datetime_of,
    later,
    moment_of,
    seconds_between,
)
from tests.factories import NOW

moments = st.integers(min_value=0, max_value=10**16).map(Moment)


@pytest.mark.parametrize(
    ("seconds", "microseconds"),
    [
        pytest.param(0, 0, id="none"),
        pytest.param(60, MINUTE, id="whole"),
        pytest.param(0.25, SECOND // 4, id="exact fraction"),
        pytest.param(1e-9, 1, id="less than a microsecond"),
        pytest.param(1.0000001, SECOND + 1, id="a little more than a second"),
        pytest.param(-0.5, -SECOND // 2, id="back"),
    ],
)
def test_later_rounds_up_to_a_microsecond(seconds: float, microseconds: int) -> None:
    assert later(NOW, seconds) == NOW + microseconds


@given(moments, st.floats(min_value=0, max_value=1e9))
def test_later_is_never_too_early(moment: Moment, seconds: float) -> None:
    assert later(moment, seconds) - moment >= seconds * SECOND


def test_seconds_between_moments_are_negative_when_they_go_backwards() -> None:
    assert seconds_between(NOW, later(NOW, 1.5)) == 1.5
    assert seconds_between(later(NOW, 1.5), NOW) == -1.5


@given(moments)
def test_moment_survives_being_a_datetime(moment: Moment) -> None:
    assert moment_of(datetime_of(moment)) == moment


def test_moment_of_a_datetime_does_not_depend_on_its_zone() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)

    elsewhere = noon.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert moment_of(elsewhere) == moment_of(noon) == 1_795_521_600 * SECOND


def test_datetime_of_a_moment_is_in_utc() -> None:
    assert datetime_of(NOW) == datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
    assert datetime_of(NOW).tzinfo is UTC
