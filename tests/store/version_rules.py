"""The rules of ``Store`` about values that another version of poussetaches wrote."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from poussetaches.core.edits import Requeue
from poussetaches.core.progress_report import Progress
from poussetaches.core.queue import Queue, QueueOverrides, RetentionOverrides
from poussetaches.core.retry import RetryOverrides
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Bury, Reason, RetryAt
from poussetaches.store.base import Push, Store
from poussetaches.store.export_records import QueueRecord, ScheduleRecord, TaskRecord
from tests.factories import NOW, make_attempt, make_schedule, make_task
from tests.store.driving import changed, finish_of, known, lease_one, put_schedule

# Members that this version does not know, and values beyond its limits.
RETRY = RetryOverrides(
    max_attempts=1_000_000,
    jitter=7.5,
    dead_on=(600, "9xx"),
    unknown={"max_total_time": Raw(b"1.10"), "spread": Raw(b'{"by": [1e400]}')},
)
OVERRIDES = QueueOverrides(
    concurrency=1_000_000,
    retry=RETRY,
    keep_dead=RetentionOverrides(age=1e12, unknown={"bytes": Raw(b"null")}),
    unknown={"window": Raw(b'"9-17"')},
)
QUEUE = Queue(
    name="mail",
    overrides=OVERRIDES,
    declared=QueueOverrides(unknown={"window": Raw(b'"always"')}),
    configured=True,
)
TASK = make_task("a", queue="mail", retry=RETRY, expected=(700, "2xx"), timeout=1e9)
TEMPLATE = make_task("template", retry=RETRY, unknown={"deadline": Raw(b'{"after": 5}')})
SCHEDULE = make_schedule("s", task=TEMPLATE)
PROGRESS = Progress(done=1, at=NOW, unknown={"unit": Raw(b'"MB"')})


def declared(schedule: Schedule) -> Schedule:
    """Return a schedule whose declaration has an unknown member."""
    definition = msgspec.structs.replace(schedule.definition, unknown={"group": Raw(b"[]")})
    return msgspec.structs.replace(schedule, declared=definition)


class VersionRules:
    """Rules for all stores about such values. Subclasses provide the ``store`` fixture."""

    async def test_task_of_another_version_is_kept_in_all_states(self, store: Store) -> None:
        """Unknown members and values are kept in all states of a task."""
        await store.push([Push(task=TASK)], now=NOW)

        lease = await lease_one(store)
        await store.finish([finish_of(lease, RetryAt(NOW), progress=PROGRESS)], now=NOW)
        again = await lease_one(store)
        await store.finish([finish_of(again, Bury(Reason.EXHAUSTED))], now=NOW)
        await store.edit("a", Requeue(at=NOW), now=NOW)
        await store.edit("a", changed(priority=5), now=NOW)

        found = await known(store, "a")
        assert lease.task == msgspec.structs.replace(TASK, state=lease.task.state)
        assert (found.retry, found.expected, found.timeout) == (RETRY, (700, "2xx"), 1e9)
        assert (found.round, found.priority) == (2, 5)
        assert [attempt.progress for attempt in await store.attempts("a")] == [PROGRESS, None]

    async def test_queue_of_another_version_is_stored_completely(self, store: Store) -> None:
        """``edit_queue``: the same for settings and declarations."""
        await store.edit_queue("mail", lambda _: QUEUE)

        await store.edit_queue("mail", paused)

        assert (await store.queues())["mail"] == msgspec.structs.replace(QUEUE, paused=True)

    async def test_schedule_of_another_version_is_stored_completely(self, store: Store) -> None:
        """``edit_schedule``: the same for templates and declarations."""
        schedule = declared(SCHEDULE)
        await put_schedule(store, schedule)

        await store.edit_schedule("s", paused_schedule, now=NOW)

        assert await store.schedule("s") == msgspec.structs.replace(schedule, paused=True)

    async def test_records_of_another_version_are_stored_completely(self, store: Store) -> None:
        """``put_records``: the same for records of an export."""
        attempts = [make_attempt(progress=PROGRESS)]
        task = msgspec.structs.replace(TASK, attempt_count=1, attempt_total=1)

        await store.put_records(
            [
                QueueRecord(queue=QUEUE),
                ScheduleRecord(schedule=declared(SCHEDULE)),
                TaskRecord(task=task, failed_at=NOW, attempts=attempts, ordinals=[1]),
            ]
        )

        assert (await store.queues())["mail"] == QUEUE
        assert await store.schedule("s") == declared(SCHEDULE)
        assert await store.get("a") == task
        assert await store.attempts("a") == attempts


def paused(queue: Queue | None) -> Queue:
    assert queue is not None
    return msgspec.structs.replace(queue, paused=True)


def paused_schedule(schedule: Schedule | None) -> Schedule:
    assert schedule is not None
    return msgspec.structs.replace(schedule, paused=True)
