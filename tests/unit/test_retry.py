from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.core.retry import (
    TEN_YEARS,
    RetryOverrides,
    RetryPolicy,
    StatusRule,
    backoff,
    matches,
    overrides_of,
)
from tests.factories import FixedRandom, seeded

DAY = 86_400.0
DEFAULT = RetryPolicy()
ORIGINAL = RetryPolicy(
    max_attempts=12, min_backoff=1.0, multiplier=4.0, max_backoff=None, jitter=0.3
)
CERTAIN = FixedRandom(0.5)  # the middle of the jitter

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1000),
    min_backoff=st.floats(0.001, 86_400),
    multiplier=st.floats(1, 10),
    max_backoff=st.none() | st.floats(1, 1e9),
    jitter=st.floats(0, 1),
)


@pytest.mark.parametrize(
    ("policy", "attempt", "wait"),
    [
        *(pytest.param(ORIGINAL, n, 4 ** (n - 1), id=f"original-{n}") for n in range(1, 12)),
        pytest.param(DEFAULT, 1, 1, id="default-1"),
        pytest.param(DEFAULT, 2, 4, id="default-2"),
        pytest.param(DEFAULT, 3, 16, id="default-3"),
        pytest.param(DEFAULT, 4, 64, id="default-4"),
        pytest.param(DEFAULT, 5, 256, id="default-5"),
        pytest.param(DEFAULT, 6, 1024, id="default-6"),
        pytest.param(DEFAULT, 7, 4096, id="default-7"),
        pytest.param(DEFAULT, 8, 16_384, id="default-8"),
        # 65,536 s would be more than the default's six hours.
        pytest.param(DEFAULT, 9, 21_600, id="default-9"),
        pytest.param(DEFAULT, 10, 21_600, id="default-10"),
        pytest.param(DEFAULT, 11, 21_600, id="default-11"),
    ],
)
def test_backoff_grows_with_the_attempt(policy: RetryPolicy, attempt: int, wait: float) -> None:
    assert backoff(policy, attempt, CERTAIN) == pytest.approx(wait)


@pytest.mark.parametrize(
    ("policy", "days"),
    [pytest.param(ORIGINAL, 16.2, id="original"), pytest.param(DEFAULT, 1.0, id="default")],
)
def test_all_backoffs_together_last(policy: RetryPolicy, days: float) -> None:
    waits = [backoff(policy, attempt, CERTAIN) for attempt in range(1, policy.max_attempts)]

    assert sum(waits) / DAY == pytest.approx(days, rel=0.01)


@pytest.mark.parametrize("attempt", range(1, 12))
def test_jitter_goes_both_ways(attempt: int) -> None:
    """The original's went one way only."""
    wait = 4 ** (attempt - 1)

    assert backoff(ORIGINAL, attempt, FixedRandom(0.0)) == pytest.approx(0.7 * wait)
    assert backoff(ORIGINAL, attempt, FixedRandom(1.0)) == pytest.approx(1.3 * wait)


@given(policies, st.integers(1, 1000), st.integers())
def test_backoff_stays_within_its_jitter(policy: RetryPolicy, attempt: int, seed: int) -> None:
    middle = backoff(policy, attempt, CERTAIN)

    wait = backoff(policy, attempt, seeded(seed))

    assert (1 - policy.jitter) * middle <= wait * (1 + 1e-9)
    assert wait <= (1 + policy.jitter) * middle * (1 + 1e-9)


@given(policies, st.integers(1, 999))
def test_backoff_never_shrinks_before_jitter(policy: RetryPolicy, attempt: int) -> None:
    assert backoff(policy, attempt, CERTAIN) <= backoff(policy, attempt + 1, CERTAIN)


def test_backoff_without_a_cap_ends_at_ten_years() -> None:
    assert backoff(ORIGINAL, 1000, CERTAIN) == pytest.approx(315_360_000)


@pytest.mark.parametrize(
    "policy",
    [
        RetryPolicy(min_backoff=-5.0),
        RetryPolicy(max_backoff=-5.0),
        RetryPolicy(multiplier=-2.0),
        RetryPolicy(jitter=9.0),
        RetryPolicy(jitter=1e300),
        RetryPolicy(min_backoff=1e300, max_backoff=None, multiplier=1e300),
    ],
    ids=str,
)
def test_stored_policy_beyond_all_limits_waits_a_time_that_exists(policy: RetryPolicy) -> None:
    waits = [backoff(policy, attempt, seeded(attempt)) for attempt in range(1, 200)]

    assert all(0 <= wait <= 2 * TEN_YEARS for wait in waits)


@pytest.mark.parametrize(
    ("status", "rules", "expected"),
    [
        pytest.param(200, (200,), True, id="the status"),
        pytest.param(201, (200,), False, id="another status"),
        pytest.param(204, ("2xx",), True, id="its class"),
        pytest.param(304, ("2xx",), False, id="another class"),
        pytest.param(204, (200, "3xx", 204), True, id="one of several"),
        pytest.param(500, (), False, id="nothing"),
        pytest.param(599, ("5xx",), True, id="end of a class"),
        pytest.param(600, ("5xx",), False, id="past a class"),
    ],
)
def test_status_matches_statuses_and_classes(
    status: int, rules: tuple[StatusRule, ...], expected: bool
) -> None:
    assert matches(status, rules) is expected


def test_policy_has_what_is_set_over_it_and_else_its_own() -> None:
    overrides = RetryOverrides(max_attempts=3, jitter=0.0, dead_on=(410,))

    assert overrides.over(DEFAULT) == RetryPolicy(max_attempts=3, jitter=0.0, dead_on=(410,))


def test_nothing_that_is_set_leaves_the_policy_as_it_is() -> None:
    assert RetryOverrides().over(ORIGINAL) == ORIGINAL


def test_zero_and_empty_are_set_and_null_is_not() -> None:
    overrides = RetryOverrides(jitter=0.0, min_backoff=0.0, dead_on=(), max_age=None)

    assert overrides_of(overrides) == {"jitter": 0.0, "min_backoff": 0.0, "dead_on": ()}
