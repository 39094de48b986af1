"""A process that was suspended and resumes: the time in between counts against nothing."""

from __future__ import annotations

import asyncio

import pytest

from poussetaches.core.task import TaskState
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import EngineWith
from tests.factories import make_task
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.store.driving import known

APP = "http://app.test:5000"
HOUR = 3600


async def pass_time(clock: FakeClock, seconds: int) -> None:
    """Advance the time in a running process."""
    for _ in range(seconds // 5):
        clock.advance(5)
        await let_run()


async def test_engine_that_stood_still_is_well_before_its_loops_have_turned(
    engine: Engine, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    engine.start()
    await let_run()

    clock.advance(HOUR)
    at_once = engine.stuck()
    await let_run()

    assert (at_once, engine.stuck()) == ([], [])
    assert "process was suspended" in caplog.messages


async def test_loop_that_does_not_go_on_after_a_standstill_is_stuck_a_minute_later(
    engine: Engine, store: SqliteStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.start()
    await let_run()
    moving = asyncio.Event()

    monkeypatch.setattr(store, "next_schedule_at", moving.wait)
    clock.advance(HOUR)
    await let_run()
    await pass_time(clock, 55)
    before = engine.stuck()
    await pass_time(clock, 10)
    after = [text.split(" for ")[0] for text in engine.stuck()]
    monkeypatch.undo()
    moving.set()

    assert (before, after) == ([], ["the scheduler has not turned"])


async def test_origin_is_not_charged_for_a_time_in_which_nobody_probed_it(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(EngineConfig(hold_for=HOUR))
    sender.goes_away(APP)
    engine.start()
    await store.add(make_task())
    await let_run()
    await pass_time(clock, 60)

    clock.advance(2 * HOUR)
    await let_run()
    sender.comes_back(APP)
    await pass_time(clock, 60)

    assert (await known(store, "task")).state is TaskState.SUCCEEDED
    assert sender.attempts_of("task") == [1, 1]


async def test_answer_that_came_while_the_process_stood_still_is_taken_before_it_ends(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.hangs()
    await store.add(make_task())
    await engine.dispatcher.tick()
    stopping = asyncio.create_task(engine.stop(30))
    await let_run()

    clock.advance(HOUR)
    await let_run()
    sender.release()
    await stopping

    assert (await known(store, "task")).state is TaskState.SUCCEEDED
