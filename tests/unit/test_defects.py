"""An internal error ends one task, attempt or schedule, visibly; no task stays *running*."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from random import Random

import msgspec
import pytest

from poussetaches.core.defect import describe_defect, stack_of
from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.moment import Moment, later
from poussetaches.core.queue import (
    BucketRecord,
    Lane,
    Queue,
    QueueSettings,
    Retention,
    RetentionOverrides,
)
from poussetaches.core.retry import RetryPolicy, backoff
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Attempt, Reason, Task, TaskState
from poussetaches.engine.defects import Defects
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.recorder import OUTCOME_TRIES
from poussetaches.engine.scheduler import STORE_RETRY, Scheduler
from poussetaches.store.base import Finish, Lease, Leased, News, ScheduleEdit
from poussetaches.store.runner import InlineRunner
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.transaction import Step
from tests.conftest import run_due
from tests.factories import NOW, make_ended, make_queue, make_schedule, make_task, seeded
from tests.fakes import AWAY, FakeClock, Panic, ScriptedSender, let_run
from tests.store.driving import Notes, known, put_schedule
from tests.store.faults import Faults
from tests.store.sqlite_files import opened

SECRET = "a secret"
JITTERED = RetryPolicy(jitter=0.5)


class FailingRandom(Random):
    """A random generator that fails on demand."""

    def __init__(self) -> None:
        super().__init__(1)
        self.breaks = False

    @classmethod
    def broken(cls) -> FailingRandom:
        """Return one that fails at once."""
        random = cls()
        random.breaks = True
        return random

    def random(self) -> float:
        """Return a number, or fail."""
        if self.breaks:
            raise ZeroDivisionError(SECRET)
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """Return some bits, or fail."""
        if self.breaks:
            raise ZeroDivisionError(SECRET)
        return super().getrandbits(k)


class FailingObserver:
    """Fails at every call."""

    def attempt_started(self, task: Task, *, now: Moment) -> None:
        """Fail."""
        raise ZeroDivisionError(SECRET)

    def attempt_ended(self, task: Task, attempt: Attempt, *, now: Moment) -> None:
        """Fail."""
        raise ZeroDivisionError(SECRET)

    def attempt_put_back(self, task: Task) -> None:
        """Fail."""
        raise ZeroDivisionError(SECRET)


class FailingListener:
    """Fails at every call."""

    def committed(self, news: News) -> None:
        """Fail."""
        raise ZeroDivisionError(SECRET)


class FailingStore(SqliteStore):
    """A store some of whose methods fail with an unexpected exception."""

    def __init__(self) -> None:
        runner = InlineRunner()
        super().__init__(None, writer=runner, reader=runner, now=lambda: NOW, random=seeded())
        self.failing: dict[str, int] = {}  # how often methods are to fail from now on
        self.error: BaseException = ZeroDivisionError(SECRET)
        self.released = asyncio.Event()  # ``finish`` waits for it
        self.released.set()

    def fail(
        self, method: str, *, times: int = 1_000_000, error: BaseException | None = None
    ) -> None:
        """Make the next calls of a method fail."""
        self.failing[method] = times
        self.error = error or ZeroDivisionError(SECRET)

    def _fail_if_told(self, method: str) -> None:
        if self.failing.get(method, 0):
            self.failing[method] -= 1
            raise self.error

    async def lease_due(
        self, lanes: Mapping[Lane, int], *, now: Moment, skip_expired: bool = False
    ) -> Leased:
        """Lease due tasks, and make the task ``odd`` unusable."""
        leased = await super().lease_due(lanes, now=now, skip_expired=skip_expired)
        leases = [
            Lease(msgspec.structs.replace(lease.task, run_at="soon"), lease.token)
            if lease.task.id == "odd" and self.failing.get("lease_due")
            else lease
            for lease in leased.leases
        ]
        return Leased(leases, leased.next_due)

    async def finish(self, finishes: Sequence[Finish], *, now: Moment) -> list[bool]:
        """Record ends, or fail."""
        self._fail_if_told("finish")
        await self.released.wait()
        return await super().finish(finishes, now=now)

    async def give_back(self, lease: Lease, *, now: Moment, error: str | None = None) -> bool:
        """Give up a lease, or fail."""
        self._fail_if_told("give_back")
        return await super().give_back(lease, now=now, error=error)

    async def edit_schedule(
        self, name: str, edit: ScheduleEdit, *, now: Moment
    ) -> Schedule | None:
        """Edit a schedule, or fail for one of them."""
        if name == "t":
            self._fail_if_told("edit_schedule")
        return await super().edit_schedule(name, edit, now=now)

    async def expire(self, *, now: Moment, limit: int, confirmed: Moment | None = None) -> int:
        """Bury expired tasks, or fail."""
        self._fail_if_told("expire")
        return await super().expire(now=now, limit=limit, confirmed=confirmed)

    async def prune(
        self,
        queue: str,
        state: TaskState,
        keep: Retention,
        *,
        now: Moment,
        limit: int,
        confirmed: Moment | None = None,
    ) -> int:
        """Prune, or fail in the first of the queues."""
        if queue == "a":
            self._fail_if_told("prune")
        return await super().prune(queue, state, keep, now=now, limit=limit, confirmed=confirmed)

    async def tidy(self, *, now: Moment, limit: int, confirmed: Moment | None = None) -> int:
        """Tidy, or fail."""
        self._fail_if_told("tidy")
        return await super().tidy(now=now, limit=limit, confirmed=confirmed)

    async def shrink(self) -> bool:
        """Shrink, or fail."""
        self._fail_if_told("shrink")
        return await super().shrink()

    async def keep_buckets(self, buckets: Mapping[str, BucketRecord]) -> None:
        """Store buckets, or fail."""
        self._fail_if_told("keep_buckets")
        await super().keep_buckets(buckets)

    async def fire(self, schedule: Schedule, run: Task, *, now: Moment) -> bool:
        """Fire a schedule, or fail for one of them."""
        if schedule.name == "t":
            self._fail_if_told("fire")
        return await super().fire(schedule, run, now=now)

    async def move_schedule(self, schedule: Schedule) -> None:
        """Move a schedule, or fail for one of them."""
        if schedule.name == "t":
            self._fail_if_told("move_schedule")
        await super().move_schedule(schedule)


@pytest.fixture
async def failing_store() -> AsyncIterator[FailingStore]:
    store = FailingStore()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def random() -> FailingRandom:
    return FailingRandom()


@pytest.fixture
async def engine(
    failing_store: FailingStore,
    sender: ScriptedSender,
    clock: FakeClock,
    random: FailingRandom,
) -> AsyncIterator[Engine]:
    engine = Engine(
        store=failing_store,
        sender=sender,
        clock=clock,
        random=random,
        config=EngineConfig(queue=QueueSettings(retry=JITTERED), hold_for=60.0),
    )
    await engine.load()
    yield engine
    random.breaks = False
    failing_store.failing.clear()
    await engine.stop(0)


async def assert_nothing_runs(store: SqliteStore) -> None:
    assert all(counts.running == 0 for counts in (await store.counts()).values())


# Attempts


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(SECRET), Panic(SECRET), asyncio.CancelledError(SECRET)], ids=repr
)
async def test_sender_that_breaks_down_costs_an_attempt(
    engine: Engine,
    failing_store: FailingStore,
    sender: ScriptedSender,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender.replies(error)
    await failing_store.add(make_task())

    await run_due(engine)

    failed = await known(failing_store, "task")
    assert (failed.state, failed.attempt_count) == (TaskState.WAITING, 1)
    assert type(error).__name__ in (failed.last_error or "")
    assert SECRET not in caplog.text + str(failed)
    assert engine.internal_error_count == 1
    await assert_nothing_runs(failing_store)


async def test_attempt_that_cannot_be_judged_ends_its_task(
    engine: Engine,
    failing_store: FailingStore,
    sender: ScriptedSender,
    random: FailingRandom,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender.hangs()
    sender.always(500)
    await failing_store.add(make_task())
    await engine.dispatcher.tick()
    await let_run()

    random.breaks = True
    sender.release()
    await engine.settle()

    task = await known(failing_store, "task")
    assert (task.state, task.reason) == (TaskState.DEAD, Reason.INTERNAL_ERROR)
    assert (task.last_status, task.attempt_count) == (500, 1)
    assert "internal error: ZeroDivisionError in core/retry.py" in (task.last_error or "")
    assert SECRET not in caplog.text + str(task)
    assert engine.internal_error_count == 1
    assert engine.in_flight == 0
    await assert_nothing_runs(failing_store)


async def test_attempt_that_breaks_down_before_it_is_sent_ends_its_task(
    engine: Engine, failing_store: FailingStore, random: FailingRandom, sender: ScriptedSender
) -> None:
    for id in ("a", "b"):
        await failing_store.add(make_task(id))

    random.breaks = True
    await run_due(engine)
    random.breaks = False

    for id in ("a", "b"):
        task = await known(failing_store, id)
        assert (task.reason, task.attempt_count) == (Reason.INTERNAL_ERROR, 0)
        assert "internal error" in (task.last_error or "")
    assert sender.requests == []
    assert engine.internal_error_count == 2
    await assert_nothing_runs(failing_store)


async def test_task_that_cannot_be_charged_dies(
    engine: Engine,
    failing_store: FailingStore,
    sender: ScriptedSender,
    clock: FakeClock,
    random: FailingRandom,
) -> None:
    sender.always(AWAY)
    sender.goes_away("http://app.test:5000")
    await failing_store.add(make_task())
    await run_due(engine)
    clock.advance(61)

    random.breaks = True
    await engine.dispatcher.tick()
    random.breaks = False
    await engine.settle()

    assert (await known(failing_store, "task")).reason is Reason.INTERNAL_ERROR
    await assert_nothing_runs(failing_store)


async def test_task_that_cannot_be_started_dies_and_the_others_are_started(
    engine: Engine, failing_store: FailingStore
) -> None:
    for id in ("a", "odd", "b"):
        await failing_store.add(make_task(id))
    failing_store.fail("lease_due", times=1)

    await run_due(engine)

    assert (await known(failing_store, "odd")).reason is Reason.INTERNAL_ERROR
    for id in ("a", "b"):
        assert (await known(failing_store, id)).state is TaskState.SUCCEEDED
    assert engine.internal_error_count == 1
    await assert_nothing_runs(failing_store)


async def retry(clock: FakeClock, times: int) -> None:
    """Wait until the recorder has retried this many times."""
    for _ in range(times):
        clock.advance(1)
        await let_run()


@pytest.mark.parametrize(
    "error",
    [
        *(ZeroDivisionError(SECRET), Panic(SECRET), asyncio.CancelledError(SECRET)),
        *(StopIteration(SECRET), MemoryError(SECRET)),
    ],
    ids=repr,
)
async def test_outcome_that_could_not_be_recorded_is_recorded_by_a_later_try(
    engine: Engine,
    failing_store: FailingStore,
    clock: FakeClock,
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await failing_store.add(make_task())
    failing_store.fail("finish", times=3, error=error)

    await engine.dispatcher.tick()
    await let_run()
    await retry(clock, 3)

    assert (await known(failing_store, "task")).state is TaskState.SUCCEEDED
    assert caplog.messages.count("outcome could not be recorded") == 1
    assert SECRET not in caplog.text
    assert engine.internal_error_count == 1
    await assert_nothing_runs(failing_store)


async def test_each_error_of_a_recording_is_logged_and_counted(
    engine: Engine, failing_store: FailingStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    await failing_store.add(make_task())
    failing_store.fail("finish", error=KeyError())
    await engine.dispatcher.tick()
    await let_run()
    for error in (KeyError(), IndexError(), KeyError()):
        failing_store.fail("finish", times=1, error=error)
        await retry(clock, 1)
    await retry(clock, 1)

    assert caplog.messages.count("outcome could not be recorded") == 3
    assert engine.internal_error_count == 3
    assert (await known(failing_store, "task")).state is TaskState.SUCCEEDED


async def test_outcome_that_can_never_be_recorded_ends_its_task(
    engine: Engine, failing_store: FailingStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    await failing_store.add(make_task())
    failing_store.fail("finish", times=OUTCOME_TRIES)

    await engine.dispatcher.tick()
    await let_run()
    await retry(clock, OUTCOME_TRIES)

    task = await known(failing_store, "task")
    assert (task.state, task.reason) == (TaskState.DEAD, Reason.INTERNAL_ERROR)
    assert (task.last_error or "").startswith("internal error: ZeroDivisionError")
    assert "outcome discarded, task ended" in caplog.messages
    await assert_nothing_runs(failing_store)


async def test_outcomes_that_could_not_be_recorded_together_are_recorded_alone(
    engine: Engine, failing_store: FailingStore, caplog: pytest.LogCaptureFixture
) -> None:
    for id in "abc":
        await failing_store.add(make_task(id))
    failing_store.fail("finish", times=1)

    await engine.dispatcher.tick()
    await let_run()

    for id in "abc":
        assert (await known(failing_store, id)).state is TaskState.SUCCEEDED
    assert caplog.messages.count("outcomes not recorded together, each is recorded alone") == 1
    assert SECRET not in caplog.text
    await assert_nothing_runs(failing_store)


async def test_outcomes_wait_together_for_a_store_that_is_unavailable(
    engine: Engine, failing_store: FailingStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for id in "abc":
        await failing_store.add(make_task(id))
    failing_store.fail("finish", times=10, error=StoreUnavailable("out of memory"))

    await engine.dispatcher.tick()
    await let_run()
    await retry(clock, 3)

    for id in "abc":
        assert (await known(failing_store, id)).state is TaskState.SUCCEEDED
    assert caplog.messages.count("outcome not recorded yet") == 3
    await assert_nothing_runs(failing_store)


async def test_task_that_could_not_be_put_back_is_put_back_by_a_later_try(
    engine: Engine, failing_store: FailingStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(AWAY)
    await failing_store.add(make_task())
    failing_store.fail("give_back", times=3)

    await engine.dispatcher.tick()
    await let_run()
    await retry(clock, 3)

    task = await known(failing_store, "task")
    assert (task.state, task.last_error, task.attempt_count) == (TaskState.WAITING, AWAY.error, 0)
    assert engine.internal_error_count == 1
    await assert_nothing_runs(failing_store)


async def test_store_without_memory_is_logged_though_it_has_no_trouble(
    engine: Engine, failing_store: FailingStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    await failing_store.add(make_task())
    failing_store.fail("finish", times=3, error=StoreUnavailable("out of memory"))

    await engine.dispatcher.tick()
    await let_run()
    await retry(clock, 3)

    assert caplog.messages.count("outcome not recorded yet") == 1
    assert (await known(failing_store, "task")).state is TaskState.SUCCEEDED


async def test_outcome_that_is_not_recorded_for_a_minute_makes_the_engine_stuck(
    engine: Engine, failing_store: FailingStore, clock: FakeClock
) -> None:
    await failing_store.add(make_task())
    failing_store.fail("finish")
    await engine.dispatcher.tick()
    await let_run()

    await retry(clock, 60)
    before = not_turning(engine)
    await retry(clock, 1)
    stuck = not_turning(engine)
    failing_store.failing.clear()
    await retry(clock, 1)

    assert (before, stuck) == ([], ["the outcome of an attempt is not being recorded"])
    assert not_turning(engine) == []


def not_turning(engine: Engine) -> list[str]:
    """Return what is stuck besides the loops, which a test turns itself."""
    return [text for text in engine.stuck() if "has not turned" not in text]


async def test_recording_that_never_ends_makes_the_engine_stuck(
    engine: Engine, failing_store: FailingStore, clock: FakeClock
) -> None:
    await failing_store.add(make_task())
    failing_store.released.clear()
    await engine.dispatcher.tick()
    await let_run()

    await retry(clock, 61)

    assert not_turning(engine) == ["the outcome of an attempt is not being recorded"]
    failing_store.released.set()


async def test_stop_does_not_wait_for_what_cannot_be_recorded(
    engine: Engine, failing_store: FailingStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    await failing_store.add(make_task())
    failing_store.fail("finish")
    await engine.dispatcher.tick()
    await let_run()

    stopping = asyncio.create_task(engine.stop(30.0))
    await let_run()
    clock.advance(1)
    await stopping

    assert (await known(failing_store, "task")).state is TaskState.RUNNING
    assert "outcome not recorded, attempt will be repeated" in caplog.messages


async def test_observer_that_breaks_down_costs_nothing(
    failing_store: FailingStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    config = EngineConfig(queue=QueueSettings(retry=JITTERED))
    engine = Engine(
        store=failing_store,
        sender=sender,
        clock=clock,
        random=seeded(),
        config=config,
        observer=FailingObserver(),
    )
    await engine.load()
    sender.replies(200, AWAY)
    for id in ("a", "b"):
        await failing_store.add(make_task(id))

    await run_due(engine)

    assert (await known(failing_store, "a")).state is TaskState.SUCCEEDED
    assert (await known(failing_store, "b")).state is TaskState.WAITING
    assert engine.internal_error_count == 4
    await assert_nothing_runs(failing_store)
    await engine.stop(0)


async def test_listener_that_breaks_down_affects_neither_tasks_nor_other_listeners(
    engine: Engine, failing_store: FailingStore, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes()
    failing_store.listen(FailingListener())
    failing_store.listen(notes)

    await failing_store.add(make_task())
    await run_due(engine)

    assert (await known(failing_store, "task")).state is TaskState.SUCCEEDED
    assert len(notes.changes) == 3  # pushed, started, succeeded
    assert caplog.messages.count("listener failed") == 3
    assert failing_store.internal_error_count == 3
    assert SECRET not in caplog.text


async def test_tokens_that_cannot_be_stored_hold_up_no_attempt_and_are_stored_later(
    engine: Engine, failing_store: FailingStore, sender: ScriptedSender
) -> None:
    await set_queue(failing_store, make_queue("default", rate=0.1, burst=2))
    failing_store.fail("keep_buckets", times=1)
    await failing_store.add(make_task("a"))
    await run_due(engine)

    assert sender.task_ids == ["a"]
    assert engine.internal_error_count == 1
    await failing_store.add(make_task("b"))
    await run_due(engine)
    assert list(await failing_store.buckets()) == ["default"]


# Schedules


async def test_schedule_that_cannot_be_fired_is_paused_and_the_others_are_fired(
    engine: Engine, failing_store: FailingStore, sender: ScriptedSender
) -> None:
    for name in "stu":
        await put_schedule(failing_store, make_schedule(name))
    failing_store.fail("fire")

    await engine.scheduler.tick()
    await run_due(engine)

    schedules = await failing_store.schedules(None)
    assert {schedule.name: schedule.paused for schedule in schedules} == {
        "s": False,
        "t": True,
        "u": False,
    }
    assert len(sender.requests) == 2
    assert engine.internal_error_count == 1


async def test_schedule_whose_times_cannot_be_found_is_paused_and_the_others_are_fired(
    engine: Engine, failing_store: FailingStore
) -> None:
    # Too late for a datetime, as a damaged row may have it.
    never = Moment(2**62)
    odd = make_schedule("t", cron="0 0 * * *", anchor_at=never, created_at=never)
    for schedule in (make_schedule("s"), odd, *(make_schedule(f"u{n}") for n in range(120))):
        await put_schedule(failing_store, schedule)
    failing_store.fail("move_schedule")

    await engine.scheduler.tick()

    assert (await failing_store.counts())["default"].waiting == 121
    assert [one.name for one in await failing_store.schedules(None) if one.paused] == ["t"]
    assert engine.internal_error_count == 1


async def test_schedule_that_cannot_be_paused_does_not_hold_up_the_others(
    engine: Engine, failing_store: FailingStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(120):
        await put_schedule(failing_store, make_schedule(f"s{number}"))
    await put_schedule(failing_store, make_schedule("t", next_run_at=Moment(NOW - 1)))
    failing_store.fail("fire")
    failing_store.fail("edit_schedule")

    again_at = await engine.scheduler.tick()

    assert again_at == clock.monotonic() + STORE_RETRY
    assert "schedule not paused" in caplog.messages
    assert (await failing_store.counts())["default"].waiting == 120


async def test_schedule_is_not_paused_for_want_of_memory(
    engine: Engine, failing_store: FailingStore
) -> None:
    await put_schedule(failing_store, make_schedule("t"))
    failing_store.fail("fire", times=1, error=MemoryError())
    loop = next(loop for loop in engine.loops if loop.name == "scheduler")

    await loop.turn()
    await loop.turn()

    [schedule] = await failing_store.schedules(None)
    assert not schedule.paused
    assert (await failing_store.counts())["default"].waiting == 1
    assert engine.internal_error_count == 1


async def test_schedule_that_stays_due_is_not_tried_again_at_once(clock: FakeClock) -> None:
    """It could be neither fired nor paused nor set aside."""
    faults = Faults()
    steps = (Step.FIRE, Step.PAUSE_FAILED, Step.SET_ASIDE)
    faults.fail(*steps, keys=("t",), error=KeyError())
    async with opened(None, row_fault=faults) as store:
        for name in "st":
            await put_schedule(store, make_schedule(name))
        scheduler = Scheduler(store=store, clock=clock, random=seeded(), defects=Defects())

        again_at = await scheduler.tick()

        assert again_at == clock.monotonic() + STORE_RETRY
        assert (await store.counts())["default"].waiting == 1


# Maintenance


@pytest.mark.parametrize("piece", ["expire", "prune", "tidy", "shrink"])
async def test_maintenance_does_the_rest_when_a_piece_breaks_down(
    engine: Engine, failing_store: FailingStore, clock: FakeClock, piece: str
) -> None:
    keep_nothing = RetentionOverrides(count=0, age=0.0)
    for name in ("a", "b"):
        await set_queue(failing_store, make_queue(name, keep_dead=keep_nothing))
    ended = [make_ended(f"dead {name}", TaskState.DEAD, queue=name) for name in ("a", "b")]
    await failing_store.restore([(task, []) for task in ended])
    await failing_store.add(make_task("late", run_at=later(NOW, 99), expires_at=NOW))
    failing_store.fail(piece, times=1)

    await engine.maintenance.tick()

    assert (await failing_store.get("dead b")) is None
    assert engine.internal_error_count == 1
    clock.advance(61)
    await engine.maintenance.tick()
    assert (await failing_store.get("dead a")) is None
    assert (await known(failing_store, "late")).reason is Reason.EXPIRED


async def set_queue(store: SqliteStore, queue: Queue) -> None:
    await store.edit_queue(queue.name, lambda _: queue)


# In words


def test_defect_is_described_by_where_it_was_raised_and_not_by_its_text() -> None:
    with pytest.raises(ZeroDivisionError) as ours:
        backoff(JITTERED, 1, FailingRandom.broken())
    with pytest.raises(KeyError) as others:
        dict[str, int]()[SECRET]

    assert describe_defect(ours.value).startswith("ZeroDivisionError in core/retry.py, line ")
    assert describe_defect(others.value) == "KeyError"
    assert "backoff" in stack_of(ours.value)
    assert SECRET not in stack_of(ours.value) + stack_of(others.value)
