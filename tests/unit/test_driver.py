from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poussetaches.core.errors import TooManyAttempts
from poussetaches.core.moment import DAY, SECOND, Moment, later
from poussetaches.core.queue import QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.core.task import Outcome, Reason, TaskState
from poussetaches.engine.driver import AttemptCount, Driver
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.observer import NullObserver
from poussetaches.engine.request import Request
from poussetaches.store import open_memory_store
from poussetaches.store.base import Store
from tests.effort import examples
from tests.factories import NOW, make_schedule, make_task, seeded
from tests.fakes import FakeClock, ScriptedSender

EXACT = RetryPolicy(jitter=0.0)
ORIGIN = "http://app.test:5000"


class PushingSender(ScriptedSender):
    """A receiver that pushes a task for each that it gets, so many in all."""

    def __init__(self, store: Store, count: int) -> None:
        super().__init__()
        self._store = store
        self._count = count

    async def send(self, request: Request) -> Outcome:
        """Push, and answer."""
        if self._count:
            self._count -= 1
            await self._store.add(make_task(f"pushed-{self._count}"))
        return await super().send(request)


async def driver_of(
    store: Store,
    sender: ScriptedSender,
    clock: FakeClock,
    *,
    most_attempts: int = 100,
    **settings: object,
) -> tuple[Driver, Engine]:
    attempts = AttemptCount(NullObserver())
    queue = msgspec.structs.replace(QueueSettings(retry=EXACT), **settings)
    engine = Engine(
        store=store,
        sender=sender,
        clock=clock,
        random=seeded(),
        config=EngineConfig(queue=queue),
        observer=attempts,
    )
    await engine.load()
    driver = Driver(
        engine=engine, store=store, clock=clock, attempts=attempts, most_attempts=most_attempts
    )
    return driver, engine


@pytest.fixture
async def store(clock: FakeClock) -> AsyncIterator[Store]:
    store = await open_memory_store(now=clock.now, random=seeded())
    yield store
    await store.close()


@pytest.fixture
async def driver(store: Store, sender: ScriptedSender, clock: FakeClock) -> Driver:
    return (await driver_of(store, sender, clock))[0]


async def state_of(store: Store, task_id: str) -> TaskState:
    task = await store.get(task_id)
    assert task is not None
    return task.state


async def test_what_is_due_is_made_and_what_is_not_is_left(
    driver: Driver, store: Store, sender: ScriptedSender
) -> None:
    await store.add(make_task("due"))
    await store.add(make_task("later", run_at=later(NOW, 1)))

    count = await driver.run_until_idle()

    assert count == 1
    assert await state_of(store, "due") is TaskState.SUCCEEDED
    assert await state_of(store, "later") is TaskState.WAITING


async def test_running_until_idle_never_moves_the_clock(
    driver: Driver, store: Store, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.always(500)
    await store.add(make_task())

    counts = [await driver.run_until_idle(), await driver.run_until_idle()]

    assert counts == [1, 0]
    assert clock.now() == NOW


async def test_what_comes_of_a_task_is_made_too(store: Store, clock: FakeClock) -> None:
    sender = PushingSender(store, 7)
    driver, _ = await driver_of(store, sender, clock)
    await store.add(make_task())

    count = await driver.run_until_idle()

    assert count == 8


async def test_task_that_waits_for_another_to_be_made_gets_it(
    store: Store, sender: ScriptedSender, clock: FakeClock
) -> None:
    class Waiting(ScriptedSender):
        """A receiver that answers one task only once it got another, which it pushes."""

        async def send(self, request: Request) -> Outcome:
            outcome = await super().send(request)
            if request.url.endswith("/first"):
                await store.add(make_task("second", url=f"{ORIGIN}/second"))
                self.hangs(to=f"{ORIGIN}/first")
                return await super().send(request)
            self.hangs_no_more()
            return outcome

    driver, _ = await driver_of(store, Waiting(), clock)
    await store.add(make_task("first", url=f"{ORIGIN}/first"))

    count = await driver.run_until_idle()

    assert count == 2


async def test_endless_pushing_is_given_up(store: Store, clock: FakeClock) -> None:
    driver, engine = await driver_of(store, PushingSender(store, 1000), clock, most_attempts=50)
    await store.add(make_task())

    with pytest.raises(TooManyAttempts):
        await driver.run_until_idle()

    assert engine.in_flight == 0
    ended = (await store.counts())["default"].succeeded
    assert 50 <= ended < 60


async def test_time_stops_at_each_attempt_exactly(
    driver: Driver, store: Store, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(500, 500, 500, 200)
    await store.add(make_task())

    count = await driver.advance(60)

    # 1, 4 and 16 seconds after one another, to the microsecond.
    started = [attempt.started_at - NOW for attempt in await store.attempts("task")]
    assert started == [0, 1 * SECOND, 5 * SECOND, 21 * SECOND]
    assert count == 4
    assert clock.now() == NOW + 60 * SECOND


@pytest.mark.parametrize("seconds", [0.0, 0.000001, 3.7, 315_360_000.0])
async def test_time_ends_exactly_where_it_was_told_to(
    driver: Driver, clock: FakeClock, seconds: float
) -> None:
    await driver.advance(seconds)

    assert clock.now() == NOW + round(seconds * SECOND)


async def test_what_is_due_at_the_end_is_made_and_what_is_due_after_it_is_not(
    driver: Driver, store: Store
) -> None:
    await store.add(make_task("at the end", run_at=later(NOW, 10)))
    await store.add(make_task("after it", run_at=later(NOW, 10.000001)))

    await driver.advance(10)

    assert await state_of(store, "at the end") is TaskState.SUCCEEDED
    assert await state_of(store, "after it") is TaskState.WAITING


async def test_what_is_due_before_time_passes_is_made_before(driver: Driver, store: Store) -> None:
    await store.add(make_task())

    await driver.advance(60)

    assert (await store.attempts("task"))[0].started_at == NOW


async def test_schedule_fires_at_each_occurrence(
    driver: Driver, store: Store, sender: ScriptedSender
) -> None:
    midnight = Moment(NOW - NOW % DAY + DAY)
    schedule = make_schedule(cron="0 0 * * *", next_run_at=midnight, anchor_at=NOW)
    await store.edit_schedule(schedule.name, lambda _: schedule, now=NOW)

    count = await driver.advance(20 * 86_400)

    assert count == 20


async def test_rate_opens_with_time(
    store: Store, sender: ScriptedSender, clock: FakeClock
) -> None:
    driver, _ = await driver_of(store, sender, clock, rate=2.0)
    for number in range(10):
        await store.add(make_task(f"task-{number}"))

    counts = [await driver.run_until_idle(), await driver.advance(2), await driver.advance(0.4)]

    assert counts == [1, 4, 0]


async def test_held_origin_is_probed_and_let_go_as_time_passes(
    driver: Driver, store: Store, sender: ScriptedSender
) -> None:
    sender.goes_away(ORIGIN)
    await store.add(make_task())

    assert await driver.run_until_idle() == 0
    assert await driver.advance(1.5) == 0
    sender.comes_back(ORIGIN)
    assert await driver.advance(1.4) == 0
    assert await driver.advance(0.1) == 1

    # A probe a second after the refusal, and the next two seconds later.
    assert sender.probes == [ORIGIN, ORIGIN]
    assert await state_of(store, "task") is TaskState.SUCCEEDED


async def test_task_expires_at_its_moment(
    driver: Driver, store: Store, sender: ScriptedSender
) -> None:
    expires_at = later(NOW, 30)
    await store.add(make_task(run_at=later(NOW, 3600), expires_at=expires_at))

    await driver.advance(3600)

    task = await store.get("task")
    assert task is not None
    assert (task.reason, task.ended_at) == (Reason.EXPIRED, expires_at)


async def test_ended_tasks_are_pruned_when_their_time_is_over(
    driver: Driver, store: Store
) -> None:
    await store.add(make_task())
    await driver.run_until_idle()

    await driver.advance(86_401)

    assert await store.get("task") is None


async def test_paused_server_is_idle(driver: Driver, store: Store) -> None:
    await store.set_paused(True)
    await store.add(make_task())

    assert await driver.run_until_idle() == 0
    assert await driver.advance(60) == 0

    await store.set_paused(False)
    assert await driver.run_until_idle() == 1


async def test_ten_quiet_years_pass_at_once(driver: Driver, store: Store) -> None:
    await store.add(make_task(run_at=later(NOW, 9 * 365 * 86_400.0)))

    assert await driver.advance(315_360_000) == 1


Setup = tuple[int, int, str]  # delay in seconds, status, host


@settings(max_examples=examples(50))
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from([200, 429, 500, 503]), st.sampled_from("abc")
        ),
        max_size=25,
    ),
    st.sampled_from([None, 0.5, 3.0]),
    st.integers(1, 3),
    st.lists(st.integers(0, 4), min_size=1, max_size=4),
)
async def test_at_rest_nothing_is_due_that_could_start(
    tasks: list[Setup], rate: float | None, concurrency: int, steps: list[int]
) -> None:
    sender, clock = ScriptedSender(), FakeClock()
    sender.goes_away("http://c.test:80")
    store = await open_memory_store(now=clock.now, random=seeded())
    driver, engine = await driver_of(
        store, sender, clock, rate=rate, concurrency=concurrency, most_attempts=10_000
    )
    for number, (delay, status, host) in enumerate(tasks):
        url = f"http://{host}.test/{status}"
        sender.always(status, to=url)
        await store.add(make_task(f"task-{number}", url=url, run_at=later(NOW, delay)))

    for step in steps:
        await driver.advance(step)

        assert not engine.lanes.is_behind()
        assert engine.in_flight == 0
    await engine.stop(0)
    await store.close()
