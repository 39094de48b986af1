from __future__ import annotations

import asyncio

import pytest

from poussetaches.core.moment import SECOND, Moment
from poussetaches.engine.clock import LONGEST_WAIT, Bell
from poussetaches.engine.virtual_clock import VirtualClock
from tests.factories import NOW
from tests.fakes import let_run


@pytest.fixture
def virtual() -> VirtualClock:
    return VirtualClock(NOW)


async def test_time_stands_still(virtual: VirtualClock) -> None:
    started = virtual.monotonic()

    await let_run()

    assert (virtual.now(), virtual.monotonic()) == (NOW, started)


@pytest.mark.parametrize("seconds", [0.0, 0.000001, 1.5, 86_400.0, 315_360_000.0])
def test_both_clocks_advance_by_the_same(virtual: VirtualClock, seconds: float) -> None:
    started = virtual.monotonic()

    virtual.advance(seconds)

    assert virtual.now() == NOW + round(seconds * SECOND)
    assert virtual.monotonic() == pytest.approx(started + seconds, abs=1e-6)


def test_moment_ten_years_away_is_met_to_the_microsecond(virtual: VirtualClock) -> None:
    moment = Moment(NOW + 315_359_999_999_999)

    virtual.advance_to(moment)

    assert virtual.now() == moment


async def test_sleeper_wakes_when_its_time_has_passed_and_not_before(
    virtual: VirtualClock,
) -> None:
    sleeper = asyncio.create_task(virtual.sleep(5))
    await let_run()

    virtual.advance(4.999999)
    await let_run()
    assert not sleeper.done()

    virtual.advance(0.000001)
    await sleeper


async def test_wait_ends_with_the_bell(virtual: VirtualClock) -> None:
    bell = Bell()
    waiting = asyncio.create_task(virtual.wait(bell, until=None))
    await let_run()

    bell.ring()
    await waiting

    assert virtual.now() == NOW


async def test_wait_is_never_longer_than_the_longest(virtual: VirtualClock) -> None:
    waiting = asyncio.create_task(virtual.wait(Bell(), until=virtual.monotonic() + 3600))
    await let_run()

    virtual.advance(LONGEST_WAIT)

    await waiting
