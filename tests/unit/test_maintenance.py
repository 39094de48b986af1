from __future__ import annotations

from poussetaches.core.moment import SECOND, Moment, later
from poussetaches.core.queue import (
    QueueSettings,
    Retention,
    RetentionOverrides,
)
from poussetaches.core.task import Reason, TaskState
from poussetaches.engine.config import EngineConfig
from poussetaches.engine.engine import Engine
from poussetaches.store.base import Push
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import EngineWith
from tests.factories import NOW, make_ended, make_queue, make_task
from tests.fakes import FakeClock
from tests.store.driving import counts_of, known
from tests.store.sqlite_files import BROKEN, Disk


async def test_waiting_tasks_past_their_end_are_buried_whatever_their_number(
    engine: Engine, store: SqliteStore, clock: FakeClock
) -> None:
    for number in range(1001):
        task = make_task(f"task-{number}", run_at=later(NOW, 99), expires_at=later(NOW, 1))
        await store.add(task)
    clock.advance(1)

    await engine.maintenance.tick()

    assert (await counts_of(store))["default"].dead == 1001
    assert (await known(store, "task-0")).reason is Reason.EXPIRED


async def test_ended_tasks_past_their_retention_are_pruned(
    engine_with: EngineWith, store: SqliteStore
) -> None:
    queue = QueueSettings(
        keep_succeeded=Retention(count=10, age=60.0), keep_dead=Retention(count=2, age=1e6)
    )
    engine = await engine_with(EngineConfig(queue=queue))
    old = Moment(NOW - 61 * SECOND)
    ended = [
        make_ended("old", TaskState.SUCCEEDED, ended_at=old),
        make_ended("new", TaskState.SUCCEEDED),
        *(make_ended(f"dead-{n}", TaskState.DEAD, ended_at=Moment(NOW + n)) for n in range(4)),
    ]
    await store.restore([(task, []) for task in ended])

    await engine.maintenance.tick()

    kept = [task.id for task in ended if await store.get(task.id) is not None]
    assert kept == ["new", "dead-2", "dead-3"]
    assert engine.maintenance.pruned == {TaskState.SUCCEEDED: 1, TaskState.DEAD: 2}


async def test_retention_of_a_queue_is_its_own(engine: Engine, store: SqliteStore) -> None:
    queue = make_queue("mail", keep_dead=RetentionOverrides(count=1))
    await store.edit_queue("mail", lambda _: queue)
    ended = [
        make_ended(f"{queue}-{n}", TaskState.DEAD, queue=queue, ended_at=Moment(NOW + n))
        for queue in ("default", "mail")
        for n in range(2)
    ]
    await store.restore([(task, []) for task in ended])

    await engine.maintenance.tick()

    kept = [task.id for task in ended if await store.get(task.id) is not None]
    assert kept == ["default-0", "default-1", "mail-1"]


async def test_what_nobody_needs_any_more_is_cleared_away_whatever_its_number(
    engine: Engine, store: SqliteStore, clock: FakeClock
) -> None:
    pushes = [Push(task=make_task(f"task-{n}", key=f"key-{n}"), key_ttl=60.0) for n in range(1200)]
    await store.push(pushes, now=NOW)
    clock.advance(60)

    await engine.maintenance.tick()

    assert await store.tidy(now=clock.now(), limit=1) == 0


async def test_maintenance_comes_back_every_minute(engine: Engine, clock: FakeClock) -> None:
    assert await engine.maintenance.tick() == clock.monotonic() + 60


async def test_maintenance_waits_for_the_store(
    engine: Engine, store: SqliteStore, clock: FakeClock, disk: Disk
) -> None:
    await store.add(make_task(expires_at=NOW))
    disk.error = BROKEN

    assert await engine.maintenance.tick() == clock.monotonic() + 60

    disk.error = None
    await store.recover()
    await engine.maintenance.tick()
    assert (await known(store, "task")).state is TaskState.DEAD
