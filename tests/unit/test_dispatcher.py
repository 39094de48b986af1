from __future__ import annotations

import asyncio
import base64
import logging
import sqlite3

import msgspec
import pytest

from poussetaches.core.moment import HOUR, SECOND, Moment, later
from poussetaches.core.queue import QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.core.task import DeliveryForm, Outcome, Reason, TaskState
from poussetaches.engine.clock import LONGEST_WAIT
from poussetaches.engine.engine import Engine
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.store.sqlite import SqliteStore
from tests.conftest import EXACT, EngineWith, run_due
from tests.factories import NOW, make_task
from tests.fakes import AWAY, UNKNOWN_HOST, FakeClock, ScriptedSender, let_run
from tests.store.driving import Notes, known
from tests.store.sqlite_files import BROKEN, FULL, Disk

APP = "http://app.test:5000"
OTHER = "http://other.test:80"


def limits(retry: RetryPolicy = EXACT, **limits: float) -> EngineConfig:
    """Return a configuration with these limits of its queues."""
    queue = msgspec.structs.replace(QueueSettings(retry=retry), **limits)
    return EngineConfig(queue=queue)


async def pass_time(engine: Engine, clock: FakeClock, *, seconds: int) -> None:
    """Advance the time in seconds, and run due work."""
    for _ in range(seconds):
        clock.advance(1)
        await run_due(engine)


# Retries


async def test_due_task_is_sent_and_succeeds(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await store.add(make_task(body=b"hello", headers={"X-Own": "1"}))

    await run_due(engine)

    (request,) = sender.requests
    assert (request.method, request.url, request.body) == ("POST", make_task().url, b"hello")
    assert request.headers["X-Own"] == "1"
    task = await known(store, "task")
    assert (task.state, task.attempt_count) == (TaskState.SUCCEEDED, 1)


async def test_delayed_task_never_starts_early(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    run_at = later(NOW, 60)
    await store.add(make_task(run_at=run_at))

    clock.advance_to(Moment(run_at - 1))
    await run_due(engine)
    assert sender.requests == []

    clock.advance_to(run_at)
    await run_due(engine)
    assert sender.attempts_of("task") == [1]


async def test_failed_task_is_tried_again_at_the_exact_end_of_each_backoff(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(500, Outcome(error="connection reset"), 503, 200)
    await store.add(make_task())
    await run_due(engine)

    for number, backoff in enumerate((1, 4, 16), start=1):
        due_at = later(clock.now(), backoff)
        assert (await known(store, "task")).run_at == due_at
        clock.advance_to(Moment(due_at - 1))
        await run_due(engine)
        assert len(sender.requests) == number
        clock.advance_to(due_at)
        await run_due(engine)

    assert sender.attempts_of("task") == [1, 2, 3, 4]
    assert (await known(store, "task")).state is TaskState.SUCCEEDED


async def test_task_that_used_its_attempts_dies(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(limits(RetryPolicy(max_attempts=3, jitter=0.0)))
    sender.always(500)
    await store.add(make_task())

    await run_due(engine)
    await pass_time(engine, clock, seconds=10)

    task = await known(store, "task")
    assert (task.state, task.reason) == (TaskState.DEAD, Reason.EXHAUSTED)
    assert sender.attempts_of("task") == [1, 2, 3]


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_sets_the_earliest_next_attempt(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, status: int
) -> None:
    sender.replies(Outcome(status=status, retry_after=90.0))
    await store.add(make_task())

    await run_due(engine)

    assert (await known(store, "task")).run_at == later(NOW, 90)


async def test_429_makes_the_whole_lane_wait_and_no_other(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(Outcome(status=429, retry_after=90.0))
    await store.add(make_task("asked"))
    await run_due(engine)
    await store.add(make_task("neighbour"))
    await store.add(make_task("elsewhere", url="http://other.test/"))

    await run_due(engine)
    clock.advance(89.999999)
    await run_due(engine)
    assert sender.attempts_of("neighbour") == []
    assert sender.attempts_of("elsewhere") == [1]

    clock.advance(0.000001)
    await run_due(engine)
    assert sender.attempts_of("neighbour") == [1]


async def test_503_makes_only_its_own_task_wait(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(Outcome(status=503, retry_after=90.0))
    await store.add(make_task("asked"))
    await run_due(engine)
    await store.add(make_task("neighbour"))

    await run_due(engine)

    assert sender.attempts_of("neighbour") == [1]


async def test_lane_waits_no_longer_than_max_retry_after(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(Outcome(status=429, retry_after=1e9))
    await store.add(make_task())

    await run_due(engine)
    clock.advance(3600)
    await run_due(engine)

    assert sender.attempts_of("task") == [1, 2]


async def test_answer_that_forbids_retries_kills_the_task(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(Outcome(status=500, refused=True))
    await store.add(make_task())

    await run_due(engine)

    task = await known(store, "task")
    assert (task.state, task.reason) == (TaskState.DEAD, Reason.REFUSED)


async def test_expected_status_is_success_whatever_it_is(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.always(404)
    await store.add(make_task("expects", expected=(404,)))
    await store.add(make_task("does-not"))

    await run_due(engine)

    assert (await known(store, "expects")).state is TaskState.SUCCEEDED
    assert (await known(store, "does-not")).state is TaskState.WAITING


async def test_body_that_breaks_off_is_a_failure_whatever_the_status(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(Outcome(status=200, error="the body broke off"))
    await store.add(make_task())

    await run_due(engine)

    task = await known(store, "task")
    assert (task.state, task.attempt_count, task.last_status) == (TaskState.WAITING, 1, 200)


async def test_attempt_is_put_on_record(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(Outcome(status=500, body=b"oh", truncated=True))
    await store.add(make_task())

    await run_due(engine)

    (attempt,) = await store.attempts("task")
    assert (attempt.number, attempt.status, attempt.succeeded) == (1, 500, False)
    assert (attempt.response_body, attempt.response_truncated) == (b"oh", True)
    assert attempt.request_id == sender.requests[0].headers["Poussetaches-Request-ID"]


async def test_duration_of_an_attempt_is_measured(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.hangs()
    await store.add(make_task())
    await engine.dispatcher.tick()
    await let_run()

    clock.advance(2.5)
    clock.jump(-3600)
    sender.release()
    await engine.dispatcher.settle()

    (attempt,) = await store.attempts("task")
    assert (attempt.duration, attempt.started_at) == (2.5, NOW)


async def test_envelope_of_a_retry_counts_its_tries(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(500, 200)
    await store.add(make_task(delivery=DeliveryForm.ENVELOPE, body=b"\x00\xff"))

    await run_due(engine)
    clock.advance(100)
    await run_due(engine)

    first, second = (msgspec.json.decode(request.body) for request in sender.requests)
    assert (first["tries"], second["tries"]) == (1, 2)
    assert base64.b64decode(second["payload"]) == b"\x00\xff"
    assert first["req_id"] != second["req_id"]


async def test_sender_that_raises_costs_an_attempt_and_not_the_task(
    engine: Engine,
    store: SqliteStore,
    sender: ScriptedSender,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender.replies(ZeroDivisionError("a bug"), 200)
    await store.add(make_task())

    await run_due(engine)
    task = await known(store, "task")
    clock.advance(1)
    await run_due(engine)

    assert (task.state, task.attempt_count) == (TaskState.WAITING, 1)
    assert "ZeroDivisionError in engine/attempt_runner.py" in (task.last_error or "")
    assert "a bug" not in caplog.text
    assert (await known(store, "task")).state is TaskState.SUCCEEDED
    assert "attempt failed with an internal error" in caplog.messages


REDIRECTED = Outcome(
    status=302, redirect="a redirect to /elsewhere, and redirects are not followed"
)


async def test_redirect_is_the_error_of_an_attempt_that_fails(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(REDIRECTED)
    await store.add(make_task())

    await run_due(engine)

    task, (attempt,) = await known(store, "task"), await store.attempts("task")
    assert (task.last_status, task.last_error) == (302, REDIRECTED.redirect)
    assert attempt.error == REDIRECTED.redirect


async def test_redirect_that_is_expected_is_no_error(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(REDIRECTED)
    await store.add(make_task(expected=("3xx",)))

    await run_due(engine)

    task, (attempt,) = await known(store, "task"), await store.attempts("task")
    assert (task.state, task.last_error, attempt.error) == (TaskState.SUCCEEDED, None, None)


async def test_location_of_a_redirect_is_not_logged(
    engine: Engine,
    store: SqliteStore,
    sender: ScriptedSender,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    sender.replies(REDIRECTED)
    await store.add(make_task())

    await run_due(engine)

    assert "attempt failed" in caplog.messages
    assert not any("/elsewhere" in repr(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize(
    ("key", "url", "key_sent"),
    [(None, APP, None), ("the key", "http://app/", True), ("the key", APP, False)],
)
async def test_attempt_tells_whether_the_key_was_sent(
    engine_with: EngineWith, store: SqliteStore, key: str | None, url: str, key_sent: bool | None
) -> None:
    engine = await engine_with(EngineConfig(auth_key=key))
    await store.add(make_task(url=url))

    await run_due(engine)

    (attempt,) = await store.attempts("task")
    assert attempt.key_sent is key_sent


async def test_payload_is_never_logged(
    engine: Engine, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await store.add(make_task(body=b"very private"))

    await run_due(engine)

    assert not any("very private" in repr(record.__dict__) for record in caplog.records)


# Held origins


async def test_refusal_costs_no_task_anything(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.goes_away(APP)
    for number in range(50):
        await store.add(make_task(f"task-{number}"))

    await run_due(engine)
    await pass_time(engine, clock, seconds=60)

    tasks = [await known(store, f"task-{number}") for number in range(50)]
    assert {(task.state, task.attempt_count) for task in tasks} == {(TaskState.WAITING, 0)}
    assert {task.run_at for task in tasks} == {NOW}
    assert tasks[0].last_error == AWAY.error
    assert await store.attempts("task-0") == []
    # Only the attempts that were in flight when the first was refused.
    assert len(sender.requests) == 4


async def test_held_origin_is_probed_less_and_less_often(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.goes_away(APP)
    await store.add(make_task())
    await run_due(engine)
    probed_at = []

    for second in range(1, 122):
        clock.advance(1)
        before = len(sender.probes)
        await run_due(engine)
        probed_at += [second] * (len(sender.probes) - before)

    assert probed_at == [1, 3, 7, 15, 31, 61, 91, 121]


async def test_application_away_for_ten_minutes_costs_nothing_and_comes_back_gently(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(limits(concurrency=64))
    sender.goes_away(APP)
    for number in range(1000):
        await store.add(make_task(f"task-{number}"))

    await run_due(engine)
    await pass_time(engine, clock, seconds=600)

    tasks = [await known(store, f"task-{number}") for number in range(1000)]
    assert {(task.state, task.attempt_count) for task in tasks} == {(TaskState.WAITING, 0)}

    sender.comes_back(APP)
    sender.hangs()
    for _ in range(30):
        clock.advance(1)
        await engine.prober.tick()
        await engine.prober.settle()
    in_flight = []
    for _ in range(8):
        await engine.dispatcher.tick()
        await let_run()
        in_flight.append(engine.dispatcher.in_flight)
        sender.release()
        await let_run()
    sender.hangs_no_more()
    await pass_time(engine, clock, seconds=20)

    assert in_flight == [1, 2, 4, 8, 16, 32, 64, 64]
    tasks = [await known(store, f"task-{number}") for number in range(1000)]
    assert {(task.state, task.attempt_count) for task in tasks} == {(TaskState.SUCCEEDED, 1)}


async def test_slots_of_a_released_origin_are_shared_by_all_queues(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.goes_away(APP)
    for number in range(4):
        await store.add(make_task(f"task-{number}", queue=f"queue-{number}"))
    await run_due(engine)
    sender.comes_back(APP)
    clock.advance(1)
    await engine.prober.tick()
    await engine.prober.settle()
    sender.hangs()

    await engine.dispatcher.tick()

    assert engine.dispatcher.in_flight == 1


async def test_origin_away_for_longer_than_hold_for_charges_its_due_tasks_unsent(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    queue = QueueSettings(retry=RetryPolicy(max_attempts=2, jitter=0.0))
    engine = await engine_with(EngineConfig(queue=queue, hold_for=60))
    sender.goes_away(APP)
    for number in range(250):
        await store.add(make_task(f"task-{number}"))
    await run_due(engine)
    sent = len(sender.requests)

    await pass_time(engine, clock, seconds=59)
    before = await known(store, "task-0")
    await pass_time(engine, clock, seconds=10)

    assert before.attempt_count == 0
    tasks = [await known(store, f"task-{number}") for number in range(250)]
    assert {(task.state, task.reason) for task in tasks} == {(TaskState.DEAD, Reason.EXHAUSTED)}
    assert {(task.attempt_count, task.last_status) for task in tasks} == {(2, None)}
    assert len(sender.requests) == sent


async def test_expired_task_of_an_origin_that_stays_away_is_not_charged(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(EngineConfig(queue=QueueSettings(retry=EXACT), hold_for=60))
    sender.goes_away(APP)
    await store.add(make_task(expires_at=later(NOW, 60)))
    await run_due(engine)

    clock.advance(60)
    await run_due(engine)

    task = await known(store, "task")
    assert (task.reason, task.attempt_count) == (Reason.EXPIRED, 0)


async def test_origin_that_comes_back_after_hold_for_gets_its_tasks(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(EngineConfig(queue=QueueSettings(retry=EXACT), hold_for=60))
    sender.goes_away(APP)
    await store.add(make_task())
    await run_due(engine)
    await pass_time(engine, clock, seconds=62)

    sender.comes_back(APP)
    await pass_time(engine, clock, seconds=300)

    task = await known(store, "task")
    assert task.state is TaskState.SUCCEEDED
    assert task.attempt_count > 1


async def test_probe_that_connects_does_not_reset_hold_for(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    """A port that accepts, and refuses again as soon as a request comes, is no application."""
    engine = await engine_with(EngineConfig(queue=QueueSettings(retry=EXACT), hold_for=10))
    sender.always(AWAY)
    await store.add(make_task())

    await run_due(engine)
    await pass_time(engine, clock, seconds=12)

    assert (await known(store, "task")).attempt_count > 0


async def test_name_that_was_never_connected_to_is_an_ordinary_failure(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(UNKNOWN_HOST)
    await store.add(make_task())

    await run_due(engine)

    assert (await known(store, "task")).attempt_count == 1
    assert engine.origins.held() == {}


async def test_name_that_was_connected_to_once_is_held(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(200, UNKNOWN_HOST)
    await store.add(make_task("first"))
    await run_due(engine)
    await store.add(make_task("second"))

    await run_due(engine)

    assert (await known(store, "second")).attempt_count == 0
    assert list(engine.origins.held()) == [APP]


async def test_name_that_resolved_only_to_be_refused_is_held_when_it_is_gone(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(AWAY, UNKNOWN_HOST)
    await store.add(make_task())

    await run_due(engine)
    await pass_time(engine, clock, seconds=1)
    await engine.dispatcher.tick()
    await engine.dispatcher.settle()

    assert len(sender.requests) == 2
    assert (await known(store, "task")).attempt_count == 0
    assert list(engine.origins.held()) == [APP]


@pytest.mark.parametrize(
    "error",
    ["no secure connection: UnknownIssuer", "connection reset", "no answer within 600 s"],
)
async def test_failure_after_connecting_holds_nothing(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, error: str
) -> None:
    sender.replies(Outcome(error=error))
    await store.add(make_task())

    await run_due(engine)

    assert (await known(store, "task")).attempt_count == 1
    assert engine.origins.held() == {}


async def test_held_origin_never_hides_a_task_of_another(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.goes_away(APP)
    for number in range(100):
        await store.add(make_task(f"away-{number}", priority=100))
    await run_due(engine)
    await store.add(make_task("healthy", url="http://other.test/"))

    await run_due(engine)

    assert (await known(store, "healthy")).state is TaskState.SUCCEEDED


async def test_expired_task_of_a_held_origin_is_not_kept_waiting_for_ever(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.goes_away(APP)
    await store.add(make_task(expires_at=later(NOW, 30)))
    await run_due(engine)

    clock.advance(30)
    await engine.maintenance.tick()

    task = await known(store, "task")
    assert (task.state, task.reason) == (TaskState.DEAD, Reason.EXPIRED)


# Pause, clock, expiry


async def test_paused_server_starts_nothing_until_it_is_resumed(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await store.set_paused(True)
    await store.add(make_task())

    await run_due(engine)
    assert sender.requests == []

    await store.set_paused(False)
    await run_due(engine)
    assert sender.attempts_of("task") == [1]


async def test_engine_learns_from_the_store_what_waits_and_that_it_is_paused(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    await store.add(make_task())
    await store.set_paused(True)

    engine = await engine_with(EngineConfig())
    await run_due(engine)
    assert sender.requests == []

    await store.set_paused(False)
    await run_due(engine)
    assert sender.attempts_of("task") == [1]


async def test_clock_set_back_between_lease_and_start_puts_the_task_back(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(EngineConfig())
    await store.add(make_task(created_at=Moment(NOW - HOUR)))
    lane = make_task().lane
    leased = await store.lease_due({lane: 1}, now=NOW)
    engine.lanes.end_lookup(lane, leased.next_due[lane])

    clock.jump(-10)
    engine.dispatcher._start(leased.leases[0], clock.now())
    await engine.dispatcher.settle()
    await run_due(engine)
    assert sender.requests == []
    assert (await known(store, "task")).attempt_count == 0

    clock.advance(10)
    await run_due(engine)
    assert sender.attempts_of("task") == [1]


async def test_pause_between_lease_and_start_puts_the_task_back(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender
) -> None:
    engine = await engine_with(EngineConfig())
    await store.add(make_task())
    leased = await store.lease_due({make_task().lane: 1}, now=NOW)

    await store.set_paused(True)
    engine.dispatcher._start(leased.leases[0], NOW)
    await engine.dispatcher.settle()
    assert sender.requests == []
    assert (await known(store, "task")).attempt_count == 0

    await store.set_paused(False)
    await run_due(engine)
    assert sender.attempts_of("task") == [1]


async def test_clock_set_back_delays_what_was_delayed_and_nothing_else(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await store.add(make_task("delayed", created_at=Moment(NOW - HOUR)))
    await store.add(make_task("at once"))

    clock.jump(-3600)
    await run_due(engine)
    assert sender.task_ids == ["at once"]

    clock.advance(3600)
    await run_due(engine)
    assert sender.task_ids == ["at once", "delayed"]


@pytest.mark.parametrize("corrections", [(0.5,), (0.5, 0.4)])
async def test_small_correction_of_the_clock_lets_tasks_expire(
    engine: Engine, store: SqliteStore, clock: FakeClock, corrections: tuple[float, ...]
) -> None:
    await store.add(make_task(expires_at=later(NOW, 0.2)))

    for seconds in corrections:
        clock.jump(seconds)
    await run_due(engine)

    assert (await known(store, "task")).reason is Reason.EXPIRED


async def test_task_that_a_leap_made_too_late_is_not_leased_again_and_again(
    engine: Engine, store: SqliteStore, clock: FakeClock
) -> None:
    await engine.dispatcher.tick()
    clock.jump(0.6)
    clock.advance(LONGEST_WAIT)
    await engine.dispatcher.tick()
    notes = Notes()
    store.listen(notes)
    await store.add(make_task(run_at=clock.now(), expires_at=later(clock.now(), 0.3)))

    clock.jump(0.6)  # 1.2 s in all, not yet noticed by the clock watch
    for _ in range(5):
        await run_due(engine)

    assert len(notes.changes) == 1
    assert (await known(store, "task")).state is TaskState.WAITING


async def test_outcome_that_is_recorded_after_the_clock_was_set_back_is_not_tried_late(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock, disk: Disk
) -> None:
    sender.replies(500, 200)
    await store.add(make_task())
    disk.error = BROKEN
    await engine.dispatcher.tick()
    await let_run()

    clock.jump(-3600)
    disk.error = None
    clock.advance(1)
    await engine.dispatcher.tick()
    await engine.dispatcher.settle()
    assert (await known(store, "task")).run_at == later(NOW, -3600 + 1 + 1)

    clock.advance(1)
    await run_due(engine)
    assert sender.attempts_of("task") == [1, 2]


async def test_clock_set_forward_makes_delayed_tasks_due(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await store.add(make_task(run_at=Moment(NOW + HOUR)))
    await run_due(engine)

    clock.jump(3600)
    await run_due(engine)

    assert sender.attempts_of("task") == [1]


async def test_task_found_expired_at_its_lease_is_not_sent(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await store.add(make_task(expires_at=later(NOW, 5)))
    clock.advance(5)

    await run_due(engine)

    task = await known(store, "task")
    assert (task.state, task.reason, task.attempt_count) == (TaskState.DEAD, Reason.EXPIRED, 0)
    assert sender.requests == []


async def test_retry_that_would_come_after_the_end_is_not_made(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    sender.replies(500)
    await store.add(make_task(expires_at=Moment(NOW + SECOND - 1)))

    await run_due(engine)

    task = await known(store, "task")
    assert (task.state, task.reason) == (TaskState.DEAD, Reason.EXPIRED)


async def test_tasks_deleted_from_one_lane_do_not_delay_another(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(limits(concurrency=1))
    await store.add(make_task("expired", url="http://other.test/", expires_at=NOW))
    await store.add(make_task("due"))
    await store.expire(now=clock.now(), limit=10)

    await run_due(engine)

    assert sender.attempts_of("due") == [1]


@pytest.mark.parametrize("error", [FULL, BROKEN], ids=["full", "broken"])
async def test_outcome_is_recorded_once_the_store_can_be_written_again(
    engine: Engine,
    store: SqliteStore,
    clock: FakeClock,
    disk: Disk,
    error: sqlite3.OperationalError,
) -> None:
    await store.add(make_task())
    disk.error = error
    await engine.dispatcher.tick()
    for _ in range(5):
        await let_run()
        clock.advance(1)
    before = await known(store, "task")

    disk.error = None
    await engine.dispatcher.tick()
    clock.advance(1)
    await engine.dispatcher.settle()

    assert before.state is TaskState.RUNNING
    assert (await known(store, "task")).state is TaskState.SUCCEEDED
    assert len(await store.attempts("task")) == 1


async def test_no_attempt_starts_while_the_store_is_in_trouble(
    engine_with: EngineWith,
    store: SqliteStore,
    sender: ScriptedSender,
    clock: FakeClock,
    disk: Disk,
) -> None:
    engine = await engine_with(limits(concurrency=1))
    await store.add(make_task("first"))
    await store.add(make_task("second"))
    disk.error = BROKEN
    await engine.dispatcher.tick()
    await let_run()
    assert store.trouble is not None

    # The tick that finds a way out of the trouble starts nothing either.
    await engine.dispatcher.tick()
    await let_run()
    assert sender.attempts_of("second") == []
    disk.error = None
    clock.advance(1)
    await engine.dispatcher.settle()
    await run_due(engine)

    assert (sender.attempts_of("first"), sender.attempts_of("second")) == ([1], [1])


async def test_store_in_trouble_is_asked_again_each_second_and_is_no_reason_to_restart(
    engine: Engine, store: SqliteStore, clock: FakeClock, disk: Disk
) -> None:
    await store.add(make_task())
    disk.error = BROKEN
    await engine.dispatcher.tick()
    await let_run()

    wake_at = await engine.dispatcher.tick()

    assert wake_at == clock.monotonic()
    clock.advance(1)
    await let_run()
    assert not engine.limits.allows_attempts
    clock.advance(120)
    assert engine.stuck() == []
    disk.error = None
    await store.recover()
    clock.advance(1)
    await engine.dispatcher.settle()


async def test_retry_whose_commit_failed_and_yet_lasted_is_made(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock, disk: Disk
) -> None:
    """After a failed sync, the end of an attempt may be on disk without a report."""
    sender.replies(500, 200)
    await store.add(make_task())
    disk.error, disk.keeps_what_fails = BROKEN, True
    await engine.dispatcher.tick()
    await let_run()

    disk.error = None
    await engine.dispatcher.tick()
    clock.advance(1)
    await engine.dispatcher.settle()
    await pass_time(engine, clock, seconds=2)

    assert sender.attempts_of("task") == [1, 2]
    assert (await known(store, "task")).state is TaskState.SUCCEEDED


# Stop


async def hang_one(engine: Engine, store: SqliteStore, sender: ScriptedSender) -> None:
    """Start an attempt that hangs."""
    sender.hangs()
    await store.add(make_task())
    await engine.dispatcher.tick()
    await let_run()
    assert sender.hung_count == 1


async def test_attempt_in_flight_may_end_while_the_server_stops(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await hang_one(engine, store, sender)

    stopping = asyncio.create_task(engine.stop(30))
    await let_run()
    assert not stopping.done()
    sender.release()
    await stopping

    assert (await known(store, "task")).state is TaskState.SUCCEEDED


async def test_attempt_cut_off_by_the_stop_leaves_nothing_on_record(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    await hang_one(engine, store, sender)

    stopping = asyncio.create_task(engine.stop(30))
    await let_run()
    clock.advance(29.999)
    await let_run()
    assert not stopping.done()
    clock.advance(0.001)
    await stopping

    task = await known(store, "task")
    assert (task.attempt_count, task.last_error) == (0, None)
    assert await store.attempts("task") == []


async def test_attempt_is_cut_off_before_it_has_begun(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await store.add(make_task())
    lease = (await store.lease_due({make_task().lane: 1}, now=NOW)).leases[0]

    engine.dispatcher._start(lease, NOW)
    await engine.dispatcher.drain(0)

    assert engine.dispatcher.in_flight == 0
    assert sender.requests == []


async def test_no_attempt_starts_once_the_server_stops(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await engine.dispatcher.drain(0)
    await store.add(make_task())

    await run_due(engine)

    assert sender.requests == []


async def test_task_leased_while_the_server_stops_is_not_started(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    """A tick that waits for the store goes on after the drain has begun."""
    await store.add(make_task())
    lease = (await store.lease_due({make_task().lane: 1}, now=NOW)).leases[0]

    await engine.dispatcher.drain(0)
    engine.dispatcher._start(lease, NOW)
    await engine.dispatcher.settle()

    assert sender.requests == []
    assert (await known(store, "task")).state is TaskState.WAITING


async def test_outcome_that_cannot_be_recorded_does_not_hold_up_the_stop(
    engine: Engine,
    store: SqliteStore,
    sender: ScriptedSender,
    disk: Disk,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await hang_one(engine, store, sender)
    disk.error = FULL

    stopping = asyncio.create_task(engine.stop(30))
    await let_run()
    sender.release()
    await stopping

    assert "outcome not recorded, attempt will be repeated" in caplog.messages


# Health


async def test_engine_that_keeps_up_is_not_stuck(engine: Engine, store: SqliteStore) -> None:
    await store.add(make_task())

    assert engine.stuck() == []


async def test_engine_whose_loops_do_not_turn_is_stuck(engine: Engine, clock: FakeClock) -> None:
    clock.advance(60.1)

    assert len(engine.stuck()) == 4


async def test_held_origin_does_not_make_the_engine_stuck(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.goes_away(APP)
    await store.add(make_task())
    await run_due(engine)

    clock.jump(120)

    assert engine.stuck() == []


async def test_server_whose_slots_are_all_taken_is_not_stuck(
    engine_with: EngineWith, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    engine = await engine_with(EngineConfig(max_in_flight=2))
    sender.hangs()
    for number in range(3):
        await store.add(make_task(f"task-{number}"))
    await engine.dispatcher.tick()

    clock.jump(120)

    assert engine.dispatcher.in_flight == 2
    assert engine.stuck() == []


async def test_due_task_that_is_never_started_makes_the_engine_stuck(
    engine: Engine, store: SqliteStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.start()
    await store.add(make_task())
    monkeypatch.setattr(engine.lanes, "startable", lambda _: {})
    for _ in range(8):
        await let_run()
        clock.advance(9)
    await let_run()

    assert engine.stuck() == ["a due task that nothing holds is not being started"]


async def test_backlog_found_at_the_start_does_not_make_the_engine_stuck(
    engine_with: EngineWith, store: SqliteStore, clock: FakeClock
) -> None:
    await store.add(make_task())
    clock.advance(3600)

    engine = await engine_with(EngineConfig())

    assert engine.stuck() == []


async def test_started_engine_delivers_by_itself_and_can_be_stopped_twice(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.replies(500, 200)
    engine.start()
    await store.add(make_task())
    await let_run()
    clock.advance(1)
    await let_run()

    await engine.stop(30)
    await engine.stop(30)

    assert sender.attempts_of("task") == [1, 2]
    assert (await known(store, "task")).state is TaskState.SUCCEEDED


async def test_started_engine_lets_an_origin_go_by_itself(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.goes_away(APP)
    engine.start()
    await store.add(make_task())
    await let_run()
    sender.comes_back(APP)

    clock.advance(1)
    await let_run()

    assert (await known(store, "task")).state is TaskState.SUCCEEDED
    await engine.stop(0)


async def test_probe_under_way_does_not_hold_up_the_stop(
    engine: Engine, store: SqliteStore, sender: ScriptedSender, clock: FakeClock
) -> None:
    sender.goes_away(APP)
    sender.probes_hang = True
    await store.add(make_task())
    await run_due(engine)
    clock.advance(1)
    await engine.prober.tick()
    await let_run()

    await engine.stop(30)

    assert sender.probes == [APP]
    assert sender.closed


async def test_second_signal_cuts_off_what_the_stop_waits_for(
    engine: Engine, store: SqliteStore, sender: ScriptedSender
) -> None:
    await hang_one(engine, store, sender)
    stopping = asyncio.create_task(engine.stop(30))
    await let_run()

    engine.cut_off()
    await stopping

    assert await store.attempts("task") == []


async def test_store_that_cannot_be_read_is_asked_again_after_a_second(
    engine: Engine, store: SqliteStore, clock: FakeClock
) -> None:
    await store.add(make_task())
    await store.close()

    assert await engine.dispatcher.tick() == clock.monotonic() + 1
