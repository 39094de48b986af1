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
from poussetaches.engine.maintenance import SHRINK_PAUSE
from poussetaches.store.base import Push
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.task_writes import MOST_BYTES
from tests.conftest import EngineWith
from tests.factories import NOW, make_ended, make_queue, make_task, seeded
from tests.fakes import FakeClock, ScriptedSender
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


async def test_large_tasks_are_all_pruned(engine_with: EngineWith, store: SqliteStore) -> None:
    nothing = Retention(count=0, age=0.0)
    engine = await engine_with(EngineConfig(queue=QueueSettings(keep_succeeded=nothing)))
    body = b"x" * MOST_BYTES  # each takes a transaction of its own
    ended = [make_ended(f"done-{n}", TaskState.SUCCEEDED, body=body) for n in range(3)]
    await store.restore([(task, []) for task in ended])

    await engine.maintenance.tick()

    assert engine.maintenance.pruned == {TaskState.SUCCEEDED: 3}


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


async def test_room_goes_back_to_the_disk_piece_by_piece(
    engine_with: EngineWith, store: SqliteStore, clock: FakeClock
) -> None:
    nothing = Retention(count=0, age=0.0)
    engine = await engine_with(EngineConfig(queue=QueueSettings(keep_succeeded=nothing)))
    body = b"x" * MOST_BYTES
    ended = [make_ended(f"done-{n}", TaskState.SUCCEEDED, body=body) for n in range(2)]
    await store.restore([(task, []) for task in ended])
    began_at, times, sizes = clock.monotonic(), [], [(await store.size()).used]

    for _ in range(3):
        wake_at = await engine.maintenance.tick()
        assert wake_at is not None
        times.append(wake_at - began_at)
        sizes.append((await store.size()).used)
        clock.advance(SHRINK_PAUSE)

    assert times == [SHRINK_PAUSE, 2 * SHRINK_PAUSE, 60]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] > MOST_BYTES
    assert sizes[-1] < MOST_BYTES / 8


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


async def test_what_has_expired_is_buried_sooner_than_the_rest_is_done(
    engine_with: EngineWith, store: SqliteStore, clock: FakeClock
) -> None:
    nothing = Retention(count=0, age=0.0)
    engine = await engine_with(EngineConfig(queue=QueueSettings(keep_dead=nothing)))
    await engine.maintenance.tick()
    await store.add(make_task(run_at=later(NOW, 99), expires_at=later(NOW, 10)))

    clock.advance(10)
    wake_at = await engine.maintenance.tick()

    assert (await counts_of(store))["default"].dead == 1
    assert wake_at == clock.monotonic() + 50
    clock.advance(50)
    await engine.maintenance.tick()
    assert await store.get("task") is None


class SlowClock(FakeClock):
    """A clock on which six seconds pass at each look."""

    def now(self) -> Moment:
        """Return the wall clock's time, much later each time."""
        self.advance(6)
        return super().now()


async def test_turn_ends_before_it_looks_stuck_and_is_gone_on_with(
    store: SqliteStore, sender: ScriptedSender
) -> None:
    clock = SlowClock()
    config = EngineConfig(queue=QueueSettings(keep_dead=Retention(count=0, age=0.0)))
    engine = Engine(store=store, sender=sender, clock=clock, random=seeded(), config=config)
    await engine.load()
    ended = [make_ended(f"dead-{number}", TaskState.DEAD) for number in range(1200)]
    await store.restore([(task, []) for task in ended])

    began_at = clock.monotonic()
    wake_at = await engine.maintenance.tick()

    assert clock.monotonic() < began_at + 60
    assert wake_at == clock.monotonic()
    assert engine.maintenance.pruned == {TaskState.DEAD: 1000}
    await engine.maintenance.tick()
    assert engine.maintenance.pruned == {TaskState.DEAD: 1200}
    await engine.stop(0)
