from __future__ import annotations

import pytest

from poussetaches.core.moment import Moment
from poussetaches.engine.engine import Engine
from poussetaches.store.sqlite import SqliteStore
from tests.factories import make_task
from tests.fakes import CreepingClock, ScriptedSender


@pytest.fixture
def clock() -> CreepingClock:
    return CreepingClock()


@pytest.mark.parametrize("ahead", range(1, 40))
async def test_task_that_falls_due_while_the_dispatcher_looks_is_not_slept_through(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: CreepingClock, ahead: int
) -> None:
    await store.add(make_task(run_at=Moment(clock.now() + ahead)))

    wake_at = await engine.dispatcher.tick()

    await engine.dispatcher.settle()
    started = len(sender.requests)
    assert started == 1 or (wake_at is not None and wake_at < clock.monotonic() + 1), wake_at
