from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from poussetaches.http_client.deadline import GRACE, Deadline
from tests.fakes import let_run
from tests.simulation.loop import SimulatedLoop

STEPS = 20  # of the event loop, from the arrival of an answer at the socket to its reader


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    loop = SimulatedLoop(started_at=100.0)
    yield loop
    loop.close()


async def answer(loop: SimulatedLoop, *, after: float) -> str:
    """Return an answer that arrives after some time, as soon as it can be read."""
    await passed(loop, after)
    await let_run(STEPS)
    return "answer"


async def passed(loop: SimulatedLoop, seconds: float) -> None:
    """Wait until virtual time has passed."""
    arrived = loop.create_future()
    timer = loop.call_later(seconds, arrived.set_result, None)
    try:
        await arrived
    finally:
        timer.cancel()


async def within(loop: SimulatedLoop, limit: float, *, answered: float, stands: float = 0) -> str:
    """Wait for an answer in a process that stands still for some time."""
    loop.call_soon(loop.pass_time, stands)
    with Deadline(loop.time() + limit):
        return await answer(loop, after=answered)


def test_answer_in_time_is_taken(loop: SimulatedLoop) -> None:
    assert loop.run_until_complete(within(loop, 1.0, answered=0.9)) == "answer"


def test_deadline_ends_what_takes_too_long(loop: SimulatedLoop) -> None:
    with pytest.raises(TimeoutError):
        loop.run_until_complete(within(loop, 1.0, answered=5.0))

    assert loop.time() == pytest.approx(101.0, abs=0.01)


def test_answer_that_came_while_the_process_stood_still_is_taken(loop: SimulatedLoop) -> None:
    found = loop.run_until_complete(within(loop, 1.0, answered=0.5, stands=3600))

    assert found == "answer"


def test_answer_that_did_not_come_meanwhile_is_not_waited_for(loop: SimulatedLoop) -> None:
    with pytest.raises(TimeoutError):
        loop.run_until_complete(within(loop, 1.0, answered=7200, stands=3600))

    assert loop.time() == pytest.approx(100 + 3600 + GRACE, abs=0.01)


def test_what_is_cancelled_within_it_is_cancelled(loop: SimulatedLoop) -> None:
    async def cancelled() -> None:
        waiting = asyncio.create_task(within(loop, 1.0, answered=0.9))
        await passed(loop, 0.5)
        waiting.cancel()
        await waiting

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(cancelled())
