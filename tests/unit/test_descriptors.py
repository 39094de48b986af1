"""The limit of open files is divided so that the sum of all parts fits into it."""

from __future__ import annotations

import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.core.errors import TooFewDescriptors
from poussetaches.engine.origins import MAX_PROBES
from poussetaches.engine.resolver import MOST_LOOKUPS
from poussetaches.engine.sender import MOST_IDLE
from poussetaches.server.descriptors import (
    FEWEST,
    MOST_CONNECTIONS,
    RESERVED,
    Descriptors,
    divide_descriptors,
)

IN_USE = 14  # descriptors of a server that has just started


@given(
    limit=st.integers(IN_USE + RESERVED + FEWEST, 100_000),
    max_in_flight=st.integers(1, 10_000),
)
def test_parts_fit_into_the_limit_and_none_is_empty(limit: int, max_in_flight: int) -> None:
    found = Descriptors.divided(limit, in_use=IN_USE, max_in_flight=max_in_flight)

    parts = (found.connections, found.max_in_flight, found.probes, found.lookups)
    assert min(parts) > 0
    assert IN_USE + RESERVED + sum(parts) + found.idle <= limit
    assert found.max_in_flight <= max_in_flight
    assert found.connections <= MOST_CONNECTIONS


@pytest.mark.parametrize(
    ("limit", "max_in_flight", "expected"),
    [
        # Exactly enough for all parts.
        (
            IN_USE + RESERVED + MOST_CONNECTIONS + 256 + MAX_PROBES + MOST_LOOKUPS + MOST_IDLE,
            256,
            Descriptors(max_in_flight=256),
        ),
        (20_000, 10_000, Descriptors(max_in_flight=10_000)),
        (
            4096,
            256,
            Descriptors(max_in_flight=256, connections=2281, probes=128, lookups=253, idle=1140),
        ),
        (
            1024,
            10_000,
            Descriptors(max_in_flight=432, connections=288, probes=61, lookups=61, idle=144),
        ),
        (
            64,
            256,
            Descriptors(max_in_flight=9, connections=6, probes=4, lookups=4, idle=3),
        ),
    ],
)
def test_low_limit_is_divided_among_the_parts(
    limit: int, max_in_flight: int, expected: Descriptors
) -> None:
    assert Descriptors.divided(limit, in_use=IN_USE, max_in_flight=max_in_flight) == expected


def test_error_for_a_limit_that_is_too_low_names_the_minimum() -> None:
    with pytest.raises(TooFewDescriptors, match="is 53, and at least 54 are needed; raise it"):
        Descriptors.divided(53, in_use=IN_USE, max_in_flight=1)

    Descriptors.divided(54, in_use=IN_USE, max_in_flight=1)


def test_limit_of_the_process_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 512
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    try:
        found = divide_descriptors(16)
        raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert low < raised
    assert found.max_in_flight == 16
    assert found.connections < raised
