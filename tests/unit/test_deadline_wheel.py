"""Deadlines of many requests pass in time, also after the process was suspended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from poussetaches.http_client.deadline import GRACE
from poussetaches.http_client.deadline_wheel import SLOTS, DeadlineWheel
from tests.simulation.loop import SimulatedLoop

STARTED_AT = 100.0


class Request:
    """A request that records when it timed out."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.slot = 0
        self.ended_at: float | None = None
        self._loop = loop

    def time_out(self) -> None:
        """Record the time since the start."""
        self.ended_at = self._loop.time() - STARTED_AT


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    loop = SimulatedLoop(started_at=STARTED_AT)
    yield loop
    loop.close()


async def passed(loop: SimulatedLoop, seconds: float) -> None:
    """Wait until virtual time has passed."""
    arrived = loop.create_future()
    loop.call_later(seconds, arrived.set_result, None)
    await arrived


def test_each_request_ends_soon_after_its_deadline(loop: SimulatedLoop) -> None:
    limits = [0.0, 0.01, 3.0, 0.5, 3.01, 60.0]
    requests = [Request(loop) for _ in limits]

    async def run() -> None:
        wheel = DeadlineWheel()
        for limit, request in zip(limits, requests, strict=True):
            wheel.add(loop.time() + limit, request)
        await passed(loop, 100)

    loop.run_until_complete(run())

    for limit, request in zip(limits, requests, strict=True):
        assert request.ended_at is not None
        assert limit <= request.ended_at <= limit + 1 / SLOTS + 0.01


def test_request_that_was_removed_does_not_end(loop: SimulatedLoop) -> None:
    removed, kept = Request(loop), Request(loop)

    async def run() -> None:
        wheel = DeadlineWheel()
        for request in (removed, kept):
            wheel.add(loop.time() + 1, request)
        wheel.remove(removed)
        await passed(loop, 10)

    loop.run_until_complete(run())

    assert removed.ended_at is None
    assert kept.ended_at is not None


def test_suspended_process_gets_time_to_read(loop: SimulatedLoop) -> None:
    request, answered = Request(loop), Request(loop)

    async def run() -> None:
        wheel = DeadlineWheel()
        for each in (request, answered):
            wheel.add(loop.time() + 1, each)
        loop.call_soon(loop.pass_time, 3600.0)
        await passed(loop, 0.5)
        await passed(loop, 0.1)
        wheel.remove(answered)
        await passed(loop, 10)

    loop.run_until_complete(run())

    assert answered.ended_at is None
    assert request.ended_at is not None
    assert request.ended_at >= 3600 + GRACE
