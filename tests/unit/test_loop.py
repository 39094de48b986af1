from __future__ import annotations

import asyncio

import pytest

from poussetaches.engine.clock import Bell
from poussetaches.engine.defects import Defects
from poussetaches.engine.loop import Loop
from tests.fakes import FakeClock, Panic, let_run


class Ticks:
    """A tick that counts its calls, asks for the next one, and rings or raises when told to."""

    def __init__(self, bell: Bell, *, wake_at: float | None = None) -> None:
        self.count = 0
        self.wake_at = wake_at
        self.error: BaseException | None = None
        self.rings = 0
        self._bell = bell

    async def __call__(self) -> float | None:
        self.count += 1
        if self.rings:
            self.rings -= 1
            self._bell.ring()
        if self.error is not None:
            raise self.error
        return self.wake_at


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def ticks(bell: Bell) -> Ticks:
    return Ticks(bell)


@pytest.fixture
def defects() -> Defects:
    return Defects()


@pytest.fixture
def loop(ticks: Ticks, bell: Bell, clock: FakeClock, defects: Defects) -> Loop:
    return Loop("test", ticks, bell=bell, clock=clock, defects=defects)


async def test_loop_ticks_at_once_and_then_when_it_was_asked_to(
    loop: Loop, ticks: Ticks, clock: FakeClock
) -> None:
    ticks.wake_at = clock.monotonic() + 5
    loop.start()
    await let_run()

    clock.advance(4.999)
    await let_run()
    assert ticks.count == 1

    ticks.wake_at = None
    clock.advance(0.001)
    await let_run()
    assert ticks.count == 2
    await loop.stop()


async def test_loop_ticks_when_its_bell_rings(loop: Loop, ticks: Ticks, bell: Bell) -> None:
    loop.start()
    await let_run()

    bell.ring()
    await let_run()

    assert ticks.count == 2
    await loop.stop()


async def test_bell_rung_during_a_tick_is_not_lost(loop: Loop, ticks: Ticks) -> None:
    ticks.rings = 1

    loop.start()
    await let_run()

    assert ticks.count == 2
    await loop.stop()


async def test_loop_looks_at_the_clock_every_ten_seconds(
    loop: Loop, ticks: Ticks, clock: FakeClock
) -> None:
    loop.start()
    await let_run()

    clock.advance(10)
    await let_run()

    assert ticks.count == 2
    assert loop.last_turn_at == clock.monotonic()
    await loop.stop()


@pytest.fixture(
    params=[ZeroDivisionError("a secret"), Panic("a secret"), asyncio.CancelledError()], ids=repr
)
def failing_ticks(request: pytest.FixtureRequest, ticks: Ticks) -> Ticks:
    ticks.error = request.param
    return ticks


async def test_tick_that_raises_is_counted_and_tried_again_after_a_second(
    loop: Loop,
    failing_ticks: Ticks,
    clock: FakeClock,
    defects: Defects,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop.start()
    await let_run()
    assert caplog.messages == ["test failed, continuing"]
    assert "a secret" not in caplog.text
    assert defects.count == 1

    failing_ticks.error = None
    clock.advance(1)
    await let_run()

    assert failing_ticks.count == 2
    await loop.stop()


async def test_loop_can_be_stopped_twice(loop: Loop, ticks: Ticks) -> None:
    loop.start()
    await let_run()

    await loop.stop()
    await loop.stop()

    assert ticks.count == 1


async def test_loop_that_never_started_can_be_stopped(loop: Loop) -> None:
    await loop.stop()


async def test_ring_that_nobody_heard_is_kept(bell: Bell, clock: FakeClock) -> None:
    bell.ring()

    await clock.wait(bell, until=None)
