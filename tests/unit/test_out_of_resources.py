"""A shortage of resources on this machine costs no task an attempt, and delays it briefly."""

from __future__ import annotations

import pytest

from poussetaches.core.task import TaskState
from poussetaches.core.wait_reason import WaitReason
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import EngineWith, run_due
from tests.factories import make_task
from tests.fakes import AWAY, NO_DESCRIPTORS, NO_PORTS, FakeClock, ScriptedSender, let_run
from tests.store.driving import known

APP = "http://app.test:5000"


async def add(store: SqliteStore, count: int) -> None:
    for number in range(count):
        await store.add(make_task(f"task-{number}", queue=f"queue-{number}"))


async def test_attempt_that_could_not_be_made_is_put_back_uncounted(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(NO_DESCRIPTORS)
    await store.add(make_task())

    await run_due(engine)

    task = await known(store, "task")
    assert (task.state, task.attempt_count) == (TaskState.WAITING, 0)
    assert task.last_error == "Too many open files"
    assert engine.shortage == "Too many open files"
    assert engine.held() == {}
    clock.advance(1)
    await run_due(engine)
    assert sender.attempts_of("task") == [1, 1]
    assert (await known(store, "task")).state is TaskState.SUCCEEDED


async def test_attempt_is_not_repeated_at_once_during_a_shortage(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.always(NO_DESCRIPTORS)
    await store.add(make_task())

    for _ in range(100):
        await run_due(engine)
        clock.advance(0.1)

    assert len(sender.requests) <= 11
    assert (await known(store, "task")).attempt_count == 0


async def test_tick_asks_to_be_called_when_attempts_may_start_again(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(NO_DESCRIPTORS)
    await store.add(make_task())
    await run_due(engine)

    assert await engine.dispatcher.tick() == clock.monotonic() + 1


async def test_concurrency_after_a_shortage_is_what_it_was_when_it_occurred(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await add(store, 10)
    sender.hangs()
    await engine.dispatcher.tick()
    await let_run()
    sender.replies(*([NO_DESCRIPTORS] * 8), 200, 200)
    sender.release(8)
    await let_run()
    started = len(sender.requests)

    clock.advance(1)
    await engine.dispatcher.tick()
    await let_run()

    # Two were still in flight, and the one that met the shortage last.
    assert len(sender.requests) - started == 1
    sender.hangs_no_more()
    await engine.settle()


async def test_waiting_task_names_the_shortage(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(NO_DESCRIPTORS)
    await store.add(make_task())
    await run_due(engine)

    (found,) = engine.waiting_for(await known(store, "task"))

    assert found.reason is WaitReason.OUT_OF_RESOURCES
    assert found.detail == "the server starts fewer attempts at the moment: Too many open files"
    assert engine.stuck() == []


async def test_lack_of_ports_holds_that_origin_alone(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(NO_PORTS, to=f"{APP}/task")
    await store.add(make_task(url=f"{APP}/task"))
    await store.add(make_task("other", url="http://other.test/"))

    await run_due(engine)

    task = await known(store, "task")
    assert (task.state, task.attempt_count) == (TaskState.WAITING, 0)
    assert (await known(store, "other")).state is TaskState.SUCCEEDED
    assert engine.held() == {APP: "no local port"}
    assert engine.shortage == "no local port"


async def test_probe_that_could_not_be_made_does_not_count_as_a_failure_of_its_origin(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(AWAY)
    sender.probe_finds(NO_DESCRIPTORS, NO_DESCRIPTORS, None)
    await store.add(make_task(url=f"{APP}/task"))
    await run_due(engine)

    for _ in range(2):
        clock.advance(1)
        await run_due(engine)
    assert engine.held() == {APP: AWAY.error}
    assert engine.shortage == "Too many open files"
    clock.advance(1)
    await run_due(engine)

    # As soon as after the first failure: it did not count as another.
    assert engine.held() == {}
    assert len(sender.probes) == 3


async def test_no_probe_begins_in_the_second_after_a_shortage(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(AWAY, to=f"{APP}/away")
    await store.add(make_task(url=f"{APP}/away"))
    await run_due(engine)
    clock.advance(0.5)
    sender.replies(NO_DESCRIPTORS, to="http://other.test/")
    await store.add(make_task("other", url="http://other.test/"))
    await run_due(engine)

    clock.advance(0.5)
    assert await engine.prober.tick() == clock.monotonic() + 0.5
    assert sender.probes == []
    clock.advance(0.5)
    await run_due(engine)
    assert sender.probes == [APP]


@pytest.mark.parametrize("most", [1, 4, 7])
async def test_probes_are_limited_in_number(
    engine_with: EngineWith,
    store: SqliteStore,
    sender: ScriptedSender,
    clock: FakeClock,
    most: int,
) -> None:
    engine = await engine_with(EngineConfig(max_probes=most))
    sender.always(AWAY)
    for number in range(10):
        await store.add(make_task(f"task-{number}", url=f"http://away{number}.test/"))
        await run_due(engine)
    sender.probes_hang = True
    clock.advance(1)

    wake_at = await engine.prober.tick()
    await let_run()

    assert len(sender.probes) == most
    assert wake_at is None
