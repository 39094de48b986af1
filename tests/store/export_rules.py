"""Rules of the contract about putting back what was exported."""

from __future__ import annotations

from poussetaches.core.moment import Moment
from poussetaches.core.responses import QueueCounts
from poussetaches.core.task import TaskState
from poussetaches.store.base import Store
from poussetaches.store.export_records import (
    KeyRecord,
    MinuteRecord,
    OwnerRecord,
    QueueRecord,
    ScheduleRecord,
    TaskRecord,
    UnreadableRecord,
    ValueRecord,
)
from poussetaches.store.minute_row import MinuteRow
from tests.factories import NOW, make_attempt, make_ended, make_queue, make_schedule, make_task


class ExportRules:
    """Rules for all stores about records. Subclasses provide the ``store`` fixture."""

    async def test_store_has_exactly_the_records(self, store: Store) -> None:
        task = make_ended("a", TaskState.DEAD, queue="mail", attempt_count=1, attempt_total=3)
        minute = MinuteRow(minute=NOW, pushed=3)
        queue, schedule = make_queue("mail", paused=True, rate=2.0), make_schedule()

        known = await store.put_records(
            [
                ValueRecord(name="paused", value="1"),
                QueueRecord(queue=queue),
                OwnerRecord(name="original", version=4),
                ScheduleRecord(schedule=schedule),
                TaskRecord(task=task, failed_at=NOW, attempts=[make_attempt()], ordinals=[3]),
                MinuteRecord(minute=minute),
                UnreadableRecord(found_at=NOW, origin_table="tasks", reason="", content="{}"),
            ]
        )

        assert known is None
        assert await store.paused()
        assert (await store.queues())["mail"] == queue
        assert await store.schedule("schedule") == schedule
        assert await store.get("a") == task
        assert await store.attempts("a") == [make_attempt()]
        assert (await store.counts())["mail"] == QueueCounts(dead=1)
        assert await store.minutes("", since=Moment(0)) == [minute]

    async def test_record_of_an_existing_task_ends_the_import(self, store: Store) -> None:
        first, again = TaskRecord(task=make_task("a")), TaskRecord(task=make_task("a", priority=1))

        known = await store.put_records([first, again, TaskRecord(task=make_task("b"))])

        assert known == 1
        assert await store.get("a") == make_task("a")
        assert await store.get("b") is None

    async def test_record_of_a_key_is_stored_without_its_task(self, store: Store) -> None:
        record = KeyRecord(
            queue="default", key="k", task_id="gone", content=b"x" * 32, expires_at=NOW
        )

        assert await store.put_records([record]) is None
