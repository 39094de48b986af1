from __future__ import annotations

import msgspec
import pytest

from poussetaches.core import edits
from poussetaches.core.moment import SECOND, Moment, later
from poussetaches.core.queue import QueueSettings
from poussetaches.core.retry import RetryOverrides
from poussetaches.core.task import Outcome, TaskState
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import EngineWith, run_due
from tests.factories import NOW, make_queue, make_task
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.store.driving import known

APP = "http://app.test:5000"


async def set_queue(
    store: SqliteStore, name: str = "default", *, paused: bool = False, **overrides: object
) -> None:
    """Configure a queue."""
    queue = make_queue(name, paused=paused, **overrides)
    await store.edit_queue(name, lambda _: queue)


async def run_now(store: SqliteStore, task_id: str) -> None:
    """Make a task due now."""
    await store.edit(task_id, edits.Run(at=NOW), now=NOW)


# Slots and turns


async def test_hung_origin_leaves_a_quarter_of_the_slots_to_others(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    engine = await engine_with(EngineConfig(queue=QueueSettings(concurrency=4)))
    await store.add(make_task("known", url="http://b.test/"))
    await run_due(engine)
    sender.hangs(to="http://a.test/")
    for number in range(20):
        await store.add(make_task(f"hangs-{number}", url="http://a.test/"))
    await engine.dispatcher.tick()
    await let_run()
    for number in range(5):
        await store.add(make_task(f"quick-{number}", url="http://b.test/"))

    for _ in range(5):
        await engine.dispatcher.tick()
        await let_run()

    assert engine.dispatcher.in_flight == sender.hung_count == 3
    assert sender.urls.count("http://b.test/") == 6


async def test_server_never_exceeds_max_in_flight(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    engine = await engine_with(EngineConfig(max_in_flight=5))
    sender.hangs()
    for number in range(20):
        await store.add(make_task(f"task-{number}", queue=f"queue-{number % 4}"))

    await engine.dispatcher.tick()
    await let_run()
    await engine.dispatcher.tick()

    assert engine.dispatcher.in_flight == 5


async def test_delayed_tasks_of_a_high_priority_never_hide_a_due_one(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    for number in range(500):
        await store.add(make_task(f"later-{number}", priority=100, run_at=later(NOW, 60)))
    await store.add(make_task("due", priority=-100))

    await run_due(engine)

    assert sender.attempts_of("due") == [1]
    assert len(sender.requests) == 1


async def test_within_a_lane_priority_is_strict_and_then_the_earliest_comes_first(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    engine = await engine_with(EngineConfig(queue=QueueSettings(concurrency=1)))
    await store.add(make_task("low", run_at=Moment(NOW - SECOND)))
    await store.add(make_task("high", priority=5))
    await store.add(make_task("early", priority=5, run_at=Moment(NOW - SECOND)))

    for _ in range(3):
        await run_due(engine)

    assert sender.task_ids == ["early", "high", "low"]


async def test_rate_of_a_queue_is_kept_over_time(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(EngineConfig(queue=QueueSettings(rate=2.0, burst=1)))
    for number in range(50):
        await store.add(make_task(f"task-{number}"))

    for _ in range(100):
        await run_due(engine)
        clock.advance(0.1)

    assert len(sender.requests) == 20


# Settings of a queue


async def test_settings_of_a_queue_are_learnt_from_the_store(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, "mail", concurrency=2)
    for number in range(5):
        await store.add(make_task(f"task-{number}", queue="mail"))
    sender.hangs()

    engine = await engine_with(EngineConfig())
    await engine.dispatcher.tick()

    assert engine.dispatcher.in_flight == 2


async def test_change_of_a_queue_counts_at_once(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    for number in range(9):
        await store.add(make_task(f"task-{number}"))
    sender.hangs()
    engine.start()
    await let_run()
    assert engine.in_flight == 4

    await set_queue(store, concurrency=7)
    await let_run()

    assert engine.in_flight == 7


async def test_policy_of_a_task_is_its_own_and_else_its_queues(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, retry=RetryOverrides(min_backoff=10.0, jitter=0.0))
    sender.always(500)
    await store.add(make_task("plain"))
    await store.add(make_task("own", retry=RetryOverrides(max_attempts=1)))

    await run_due(engine)

    assert (await known(store, "plain")).run_at == later(NOW, 10)
    assert (await known(store, "own")).state is TaskState.DEAD


async def test_timeout_of_an_attempt_is_its_queues(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, timeout=7.0)
    await store.add(make_task())

    await run_due(engine)

    assert sender.requests[0].timeout == 7.0


# Pauses


async def test_paused_queue_starts_nothing_until_it_is_resumed(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, "mail", paused=True)
    await store.add(make_task("held", queue="mail"))
    await store.add(make_task("other"))

    await run_due(engine)
    assert sender.task_ids == ["other"]

    await set_queue(store, "mail")
    await run_due(engine)
    assert sender.task_ids == ["other", "held"]


async def test_pause_of_a_queue_is_learnt_from_the_store(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, paused=True)
    await store.add(make_task())

    await run_due(await engine_with(EngineConfig()))

    assert sender.requests == []


async def test_paused_queue_never_hides_a_task_of_another(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, "mail", paused=True)
    for number in range(300):
        await store.add(make_task(f"paused-{number}", queue="mail", priority=100))
    await store.add(make_task("due"))

    await run_due(engine)

    assert sender.task_ids == ["due"]


@pytest.mark.parametrize("whose", ["queue", "server", "both"])
async def test_task_told_to_run_is_stopped_by_no_pause(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, whose: str
) -> None:
    await set_queue(store, paused=whose != "server")
    await store.set_paused(whose != "queue")
    await store.add(make_task("waits"))
    await store.add(make_task("forced", run_at=later(NOW, 3600)))

    await run_now(store, "forced")
    await run_due(engine)

    assert sender.task_ids == ["forced"]


async def test_task_told_to_run_is_paused_again_once_it_failed(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await set_queue(store, paused=True)
    sender.always(500)
    await store.add(make_task())
    await run_now(store, "task")
    await run_due(engine)

    clock.advance(60)
    await run_due(engine)

    assert sender.attempts_of("task") == [1]


async def test_task_told_to_run_keeps_the_limits_of_its_queue(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, concurrency=3, paused=True)
    sender.hangs()
    for number in range(9):
        await store.add(make_task(f"task-{number}"))
        await run_now(store, f"task-{number}")

    await engine.dispatcher.tick()

    assert engine.in_flight == 3


async def test_task_told_to_run_waits_for_an_origin_that_is_held(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.goes_away(APP)
    await store.add(make_task("first"))
    await run_due(engine)
    await store.add(make_task("forced"))

    await run_now(store, "forced")
    await run_due(engine)

    assert sender.attempts_of("forced") == []


async def test_task_told_to_run_waits_when_its_origin_asked_to(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(Outcome(status=429, retry_after=90.0))
    await store.add(make_task("first"))
    await run_due(engine)
    await store.add(make_task("forced"))
    await run_now(store, "forced")

    await run_due(engine)
    assert sender.attempts_of("forced") == []

    clock.advance(90)
    await run_due(engine)
    assert sender.attempts_of("forced") == [1]


@pytest.mark.parametrize("forced", [False, True])
async def test_pause_of_its_queue_between_lease_and_start_puts_a_task_back(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, forced: bool
) -> None:
    await store.add(make_task(forced=forced))
    leased = await store.lease_due({make_task(forced=forced).lane: 1}, now=NOW)

    await set_queue(store, paused=True)
    engine.dispatcher._start(leased.leases[0], NOW)
    await engine.dispatcher.settle()

    assert sender.attempts_of("task") == ([1] if forced else [])


# Paths


async def test_path_is_sent_behind_the_base_url_of_its_queue(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, base_url="http://app.test:5000/base")
    await store.add(make_task(url="/run?x=1"))

    await run_due(engine)

    assert sender.urls == ["http://app.test:5000/base/run?x=1"]


async def test_path_follows_its_application_to_another_place(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await set_queue(store, base_url="http://old.test")
    sender.goes_away("http://old.test:80")
    await store.add(make_task(url="/run"))
    await run_due(engine)

    await set_queue(store, base_url="http://new.test")
    await run_due(engine)

    assert sender.urls == ["http://old.test/run", "http://new.test/run"]
    assert (await known(store, "task")).state is TaskState.SUCCEEDED


async def test_path_that_leads_nowhere_fails_and_says_what_to_do(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await store.add(make_task(url="/run"))

    await run_due(engine)

    task = await known(store, "task")
    assert (task.state, task.attempt_count) == (TaskState.WAITING, 1)
    assert "base_url" in (task.last_error or "")
    assert sender.requests == []
    assert engine.held() == {}


async def test_path_is_held_with_the_origin_that_it_leads_to(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, base_url=APP)
    sender.goes_away(APP)
    await store.add(make_task("absolute"))
    await run_due(engine)
    await store.add(make_task("path", url="/run"))

    await run_due(engine)

    assert sender.attempts_of("path") == []
    assert list(engine.held()) == [APP]


async def test_429_to_a_path_makes_its_whole_origin_wait(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await set_queue(store, base_url=APP)
    sender.replies(Outcome(status=429, retry_after=90.0))
    await store.add(make_task("path", url="/run"))
    await run_due(engine)
    await store.add(make_task("absolute"))

    await run_due(engine)

    assert sender.attempts_of("absolute") == []


async def test_429_in_one_queue_leaves_the_others_alone(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(Outcome(status=429, retry_after=90.0))
    await store.add(make_task("asked"))
    await run_due(engine)
    await store.add(make_task("other", queue="other"))

    await run_due(engine)

    assert sender.attempts_of("other") == [1]


async def test_wait_that_was_asked_for_is_limited_by_the_policy_of_the_task(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(Outcome(status=429, retry_after=90.0))
    await store.add(make_task("asked", retry=RetryOverrides(max_retry_after=5.0)))
    await run_due(engine)
    await store.add(make_task("neighbour"))

    clock.advance(5)
    await run_due(engine)

    assert sender.attempts_of("neighbour") == [1]


# Callbacks


async def test_end_of_a_task_is_told_by_a_task_of_the_queue_callbacks(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await store.add(make_task(on_success="http://app.test:5000/done"))

    await run_due(engine)
    await run_due(engine)

    _, second = sender.requests
    assert second.headers["Poussetaches-Queue"] == "callbacks"
    assert second.headers["Content-Type"] == "application/json"
    assert msgspec.json.decode(second.body)["id"] == "task"
