from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.moment import SECOND, Moment
from poussetaches.core.queue import QueueSettings
from poussetaches.core.task import Attempt, Task, TaskState
from poussetaches.engine.clock import SystemClock
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.store.base import News
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import EXACT, run_due
from tests.factories import NOW, make_schedule, make_task, seeded
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.store.driving import known, put_schedule
from tests.store.sqlite_files import BROKEN, Disk

APP = "http://app.test:5000"


class Watcher:
    """An observer that writes down what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.lateness: list[int] = []
        self.attempts: list[Attempt] = []

    def attempt_started(self, task: Task, *, now: Moment) -> None:
        """Note a start, and how late it is."""
        self.seen.append(("started", task.id))
        self.lateness.append(now - task.run_at)

    def attempt_ended(self, task: Task, attempt: Attempt, *, now: Moment) -> None:
        """Note an end."""
        self.seen.append(("ended", task.id))
        self.attempts.append(attempt)

    def attempt_put_back(self, task: Task) -> None:
        """Note that it did not count."""
        self.seen.append(("put back", task.id))


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
async def engine(
    store: SqliteStore, sender: ScriptedSender, clock: FakeClock, watcher: Watcher
) -> AsyncIterator[Engine]:
    """Return an engine that is watched."""
    engine = Engine(
        store=store,
        sender=sender,
        clock=clock,
        random=seeded(),
        config=EngineConfig(queue=QueueSettings(retry=EXACT), hold_for=60),
        observer=watcher,
    )
    await engine.load()
    yield engine
    await engine.stop(0)


async def test_start_and_end_of_an_attempt_are_seen(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, watcher: Watcher
) -> None:
    sender.replies(503)
    await store.add(make_task(run_at=Moment(NOW - 2 * SECOND)))

    await run_due(engine)

    assert watcher.seen == [("started", "task"), ("ended", "task")]
    assert watcher.lateness == [2 * SECOND]
    assert watcher.attempts == await store.attempts("task")


async def test_attempt_that_does_not_count_is_seen_as_put_back(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, watcher: Watcher
) -> None:
    sender.goes_away(APP)
    await store.add(make_task())

    await run_due(engine)

    assert watcher.seen == [("started", "task"), ("put back", "task")]


async def test_charged_attempt_ends_without_a_start(
    engine: Engine,
    store: SqliteStore,
    sender: ScriptedSender,
    clock: FakeClock,
    watcher: Watcher,
) -> None:
    sender.goes_away(APP)
    await store.add(make_task())
    await run_due(engine)
    watcher.seen.clear()

    clock.advance(60)
    await run_due(engine)

    assert watcher.seen == [("ended", "task")]


async def test_task_that_is_put_back_before_its_start_is_not_seen(
    engine: Engine, store: SqliteStore, watcher: Watcher
) -> None:
    await store.add(make_task())
    leased = await store.lease_due({make_task().lane: 1}, now=NOW)
    await store.set_paused(True)

    engine.dispatcher._start(leased.leases[0], NOW)
    await engine.settle()

    assert watcher.seen == []
    assert (await known(store, "task")).state is TaskState.WAITING


async def test_engine_that_nobody_watches_delivers_all_the_same(
    store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = Engine(
        store=store, sender=sender, clock=clock, random=seeded(), config=EngineConfig()
    )
    await engine.load()
    await store.add(make_task())

    await run_due(engine)

    assert (await known(store, "task")).state is TaskState.SUCCEEDED
    await engine.stop(0)


async def test_pause_of_the_server_is_seen(engine: Engine, store: SqliteStore) -> None:
    await store.set_paused(True)
    assert engine.paused

    await store.set_paused(False)
    assert not engine.paused


async def test_end_of_an_attempt_makes_room_when_the_server_is_at_its_limit(
    store: SqliteStore, sender: ScriptedSender
) -> None:
    for id in "abc":
        await store.add(make_task(id))
    sender.hangs()
    # The machine's clock: it wakes in fewer steps of the event loop than a test's does.
    engine = Engine(
        store=store,
        sender=sender,
        clock=SystemClock(),
        random=seeded(),
        config=EngineConfig(max_in_flight=1),
    )
    await engine.load()
    engine.start()
    await let_run()

    sender.release()
    await let_run()
    seen = (len(sender.requests), sender.hung_count)
    await engine.stop(0)

    # The end itself wakes the dispatcher, and it must find the room then.
    assert seen == (2, 1)


async def test_new_schedule_is_fired_when_it_is_due_and_not_later(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine.start()
    await let_run()

    await put_schedule(store, make_schedule(next_run_at=Moment(NOW + SECOND)))
    await let_run()
    clock.advance(1)
    await let_run()

    assert len(sender.requests) == 1


async def test_commit_that_changed_nothing_for_the_engine_wakes_nobody(engine: Engine) -> None:
    for loop in engine.loops:
        await loop.turn()

    engine.committed(News())

    assert [loop.name for loop in engine.loops if loop.has_rung] == []


async def test_trouble_of_the_store_is_seen_to_at_once(
    engine: Engine, store: SqliteStore, disk: Disk
) -> None:
    engine.start()
    await let_run()

    disk.error = BROKEN
    with pytest.raises(StoreUnavailable):
        await store.add(make_task())
    disk.error = None
    await let_run()

    assert store.trouble is None
