from __future__ import annotations

import pytest

from poussetaches.core import edits
from poussetaches.core.edits import Delete
from poussetaches.core.errors import StoreFull
from poussetaches.core.moment import HOUR, Moment, later
from poussetaches.core.queue import Queue, QueueSettings
from poussetaches.core.task import Outcome, Task, TaskState
from poussetaches.core.wait_reason import WaitingFor, WaitReason
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.explainer import DETAILS
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import EngineWith, run_due
from tests.factories import NOW, make_ended, make_queue, make_task
from tests.fakes import AWAY, FakeClock, ScriptedSender, let_run
from tests.store.driving import known
from tests.store.sqlite_files import FULL, Disk

APP = "http://app.test:5000"


async def set_queue(store: SqliteStore, *, paused: bool = False, **overrides: object) -> None:
    """Configure the default queue."""
    queue = make_queue("default", paused=paused, **overrides)
    await store.edit_queue("default", lambda _: queue)


async def add_many(store: SqliteStore, engine: Engine, count: int = 6) -> None:
    """Add tasks, and start the ones that may start."""
    for number in range(count):
        await store.add(make_task(f"task-{number}"))
    await engine.dispatcher.tick()
    await let_run()


async def reasons_of(store: SqliteStore, engine: Engine, task_id: str) -> list[WaitReason]:
    """Return what a task waits for."""
    return [found.reason for found in engine.waiting_for(await known(store, task_id))]


def only(found: list[WaitingFor]) -> WaitingFor:
    """Return the only thing that is waited for."""
    assert len(found) == 1, found
    return found[0]


async def test_due_task_that_nothing_holds_waits_for_nothing(
    engine: Engine, store: SqliteStore
) -> None:
    await store.add(make_task())

    assert await reasons_of(store, engine, "task") == []
    assert engine.queue_waiting_for("default") == []


@pytest.mark.parametrize(
    "task",
    [make_task(state=TaskState.RUNNING), make_ended("dead", TaskState.DEAD)],
    ids=["running", "dead"],
)
def test_task_that_does_not_wait_waits_for_nothing(engine: Engine, task: Task) -> None:
    assert engine.waiting_for(task) == []


async def test_delayed_task_waits_until_it_is_due(engine: Engine, store: SqliteStore) -> None:
    await store.add(make_task(run_at=later(NOW, 60)))

    found = only(engine.waiting_for(await known(store, "task")))

    assert (found.reason, found.until) == (WaitReason.NOT_DUE, later(NOW, 60))


async def test_failed_task_waits_for_its_next_attempt(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(500)
    await store.add(make_task())
    await run_due(engine)

    found = only(engine.waiting_for(await known(store, "task")))

    assert (found.reason, found.until) == (WaitReason.BACKOFF, later(NOW, 1))


async def test_pauses_are_told_apart_and_stop_no_task_that_was_told_to_run(
    engine: Engine, store: SqliteStore
) -> None:
    await set_queue(store, paused=True)
    await store.set_paused(True)
    await store.add(make_task("waits"))
    await store.add(make_task("forced"))
    await store.edit("forced", edits.Run(at=NOW), now=NOW)

    expected = [WaitReason.SERVER_PAUSED, WaitReason.PAUSED]
    assert await reasons_of(store, engine, "waits") == expected
    assert await reasons_of(store, engine, "forced") == []
    assert [found.reason for found in engine.queue_waiting_for("default")] == expected


async def test_task_without_a_token_waits_for_the_next(
    engine: Engine, store: SqliteStore, clock: FakeClock
) -> None:
    await set_queue(store, rate=0.1)
    await add_many(store, engine, 2)
    clock.advance(4)

    found = only(engine.waiting_for(await known(store, "task-1")))

    assert (found.reason, found.until) == (WaitReason.RATE, later(NOW, 10))
    assert engine.queue_waiting_for("default") == [found]


async def test_task_waits_for_a_slot_of_its_queue(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.hangs()
    await add_many(store, engine)

    found = only(engine.waiting_for(await known(store, "task-5")))

    assert found.reason is WaitReason.CONCURRENCY
    assert found.detail == "the queue has 4 of 4 attempts in flight"
    assert engine.queue_waiting_for("default") == [found]


async def test_task_waits_for_a_slot_of_the_server(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    engine = await engine_with(EngineConfig(max_in_flight=2))
    sender.hangs()
    await add_many(store, engine)

    found = only(engine.waiting_for(await known(store, "task-5")))

    assert found.reason is WaitReason.CONCURRENCY
    assert found.detail == "the server has 2 of 2 attempts in flight, for all queues"


async def test_task_waits_for_a_slot_of_its_origin(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, origin_concurrency=2)
    sender.hangs()
    await add_many(store, engine)

    found = only(engine.waiting_for(await known(store, "task-5")))

    assert found.reason is WaitReason.ORIGIN_SLOTS
    assert "2 of the 2 attempts" in found.detail
    assert engine.queue_waiting_for("default") == [found]


async def test_task_waits_for_a_slot_of_an_origin_that_was_away(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.goes_away(APP)
    await add_many(store, engine)
    sender.comes_back(APP)
    clock.advance(1)
    await engine.prober.tick()
    await engine.prober.settle()
    sender.hangs()
    await engine.dispatcher.tick()

    found = only(engine.waiting_for(await known(store, "task-5")))

    assert found.reason is WaitReason.ORIGIN_SLOTS
    assert "could not be reached before" in found.detail


async def test_task_waits_for_an_origin_that_is_held(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.goes_away(APP)
    await add_many(store, engine)

    found = only(engine.waiting_for(await known(store, "task-5")))

    assert found.reason is WaitReason.ORIGIN_HELD
    assert APP in found.detail
    assert (AWAY.error or "") in found.detail
    assert engine.queue_waiting_for("default") == [found]


async def test_queue_names_one_of_many_origins_that_are_held(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    for number in range(3):
        sender.goes_away(f"http://{number}.test:80")
        await store.add(make_task(f"task-{number}", url=f"http://{number}.test/"))
    await run_due(engine)

    found = only(engine.queue_waiting_for("default"))

    assert found.reason is WaitReason.ORIGIN_HELD
    assert "for 2 more origins" in found.detail


async def test_task_waits_as_long_as_its_origin_asked(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(Outcome(status=429, retry_after=90.0))
    await store.add(make_task("asked"))
    await run_due(engine)
    await store.add(make_task("neighbour"))
    clock.advance(10)

    found = only(engine.waiting_for(await known(store, "neighbour")))

    assert (found.reason, found.until) == (WaitReason.ASKED_TO_WAIT, later(NOW, 90))


async def test_path_waits_for_the_origin_that_it_leads_to(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, base_url=APP)
    sender.goes_away(APP)
    await store.add(make_task(url="/run"))

    await run_due(engine)

    assert await reasons_of(store, engine, "task") == [WaitReason.ORIGIN_HELD]


async def test_task_waits_for_a_store_that_cannot_be_written(
    engine: Engine, store: SqliteStore, disk: Disk
) -> None:
    disk.error = FULL
    with pytest.raises(StoreFull):
        await store.add(make_task())

    found = engine.queue_waiting_for("default")

    assert [each.reason for each in found] == [WaitReason.STORE_FULL]
    disk.error = None
    await store.recover()
    assert engine.queue_waiting_for("default") == []


async def test_task_waits_for_the_next_start_of_a_server_that_stops(
    engine: Engine, store: SqliteStore
) -> None:
    await store.add(make_task())

    await engine.dispatcher.drain(0)

    assert await reasons_of(store, engine, "task") == [WaitReason.DRAINING]


async def test_task_waits_until_the_engine_is_started(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    engine.postpone_attempts()
    await store.add(make_task())
    await engine.dispatcher.tick()

    found = only(engine.waiting_for(await known(store, "task")))

    assert (found.reason, found.until) == (WaitReason.STARTING, None)
    assert "when the application answers" in found.detail
    assert engine.queue_waiting_for("default") == [found]
    assert sender.requests == []
    engine.start()
    assert await reasons_of(store, engine, "task") == []


async def test_server_that_stops_before_it_has_started_is_draining(
    engine: Engine, store: SqliteStore
) -> None:
    engine.postpone_attempts()
    await store.add(make_task())

    await engine.dispatcher.drain(0)

    assert await reasons_of(store, engine, "task") == [WaitReason.DRAINING]


async def test_list_has_reasons_of_waiting_tasks_in_short(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, rate=0.1)
    await store.add(make_task("ended"))
    await run_due(engine)
    await store.add(make_task("due"))
    await store.add(make_task("later", run_at=later(NOW, 60)))
    tasks = [await known(store, each) for each in ("ended", "due", "later")]

    ended, due, planned = engine.wait_reasons(tasks)

    assert ended is None
    assert [(limit.reason, limit.until) for limit in due or ()] == [
        (WaitReason.RATE, later(NOW, 10))
    ]
    assert [(limit.reason, limit.until) for limit in planned or ()] == [
        (WaitReason.NOT_DUE, later(NOW, 60))
    ]


def test_every_reason_has_words() -> None:
    assert {reason for reason, _ in DETAILS} == set(WaitReason) - {WaitReason.BEHIND}


async def test_queue_without_due_tasks_waits_for_nothing_but_its_pause(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.hangs()
    await add_many(store, engine, 4)
    await store.add(make_task("later", run_at=later(NOW, 60)))

    assert engine.queue_waiting_for("default") == []
    assert engine.queue_waiting_for("unknown") == []
    await set_queue(store, paused=True)
    assert only(engine.queue_waiting_for("default")).reason is WaitReason.PAUSED


async def test_oldest_due_task_is_that_of_one_queue_or_of_all(
    engine_with: EngineWith, store: SqliteStore, clock: FakeClock
) -> None:
    engine = await engine_with(EngineConfig(queue=QueueSettings()))
    await store.set_paused(True)
    await store.add(make_task("a", queue="a", run_at=Moment(NOW - HOUR)))
    await store.add(make_task("b", queue="b", run_at=Moment(NOW - 2 * HOUR)))
    await store.add(make_task("later", queue="c", run_at=later(NOW, 60)))
    await engine.dispatcher.tick()

    assert engine.oldest_due_at("a") == Moment(NOW - HOUR)
    assert engine.oldest_due_at(None) == Moment(NOW - 2 * HOUR)
    assert engine.oldest_due_at("c") is None
    assert engine.oldest_due_at("unknown") is None
    clock.advance(60)
    assert engine.oldest_due_at("c") == later(NOW, 60)


@pytest.mark.parametrize(
    "queue",
    [make_queue(paused=True), make_queue(rate=1e-6), make_queue(concurrency=1)],
    ids=["paused", "rate", "concurrency"],
)
async def test_deleted_task_is_no_longer_the_oldest_due_one_though_its_queue_stands_still(
    engine: Engine,
    store: SqliteStore,
    sender: ScriptedSender,
    clock: FakeClock,
    queue: Queue,
) -> None:
    await store.edit_queue("default", lambda _: queue)
    sender.hangs()
    await add_many(store, engine)
    for number in range(6):
        await store.edit(f"task-{number}", Delete(), now=NOW)

    clock.advance(60)
    await engine.dispatcher.tick()

    assert engine.oldest_due_at("default") is None
