"""The rules of ``Store`` about queues, upkeep and statistics."""

from __future__ import annotations

import asyncio

import pytest

from poussetaches.core.edits import Delete, Requeue
from poussetaches.core.errors import InvalidQueue, QueueInUse
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import DAY, MINUTE, SECOND, Moment
from poussetaches.core.queue import (
    BucketRecord,
    Declarer,
    Queue,
    QueueOverrides,
    Retention,
    RetentionOverrides,
)
from poussetaches.core.responses import QueueCounts
from poussetaches.core.retry import RetryOverrides
from poussetaches.core.task import Bury, Complete, Reason, RetryAt, TaskState
from poussetaches.store.base import Change, Push, Store
from poussetaches.store.minute_row import MinuteRow
from tests.factories import NOW, make_ended, make_task
from tests.store.driving import (
    LANE,
    Notes,
    assert_counts_are_true,
    end,
    found_by,
    lease_all,
    lease_one,
)

LATER = Moment(NOW + 2 * DAY)
MAIL = Queue(
    name="mail",
    overrides=QueueOverrides(
        rate=2.5,
        burst=3,
        retry=RetryOverrides(max_attempts=2, dead_on=(404, "5xx")),
        base_url="http://app.test",
        keep_dead=RetentionOverrides(count=1, age=2.0),
    ),
    declared=QueueOverrides(rate=3.0, retry=RetryOverrides(dead_on=(410,))),
    declarer=Declarer("app", ("shop",)),
    configured=True,
    paused=True,
)


def refused(queue: Queue | None) -> Queue:
    """Refuse to edit a queue."""
    raise InvalidQueue("rate", "is too high")


def bucket(full_at: Moment) -> BucketRecord:
    """Return a bucket that will be full at a moment."""
    return BucketRecord(boot_id="boot", full_at_uptime=7, full_at=full_at)


async def tidy(store: Store, *, now: Moment = LATER, limit: int = 100) -> int:
    """Delete rows that are no longer needed."""
    return await store.tidy(now=now, limit=limit)


class QueueRules:
    """Rules for all stores about queues. Subclasses provide the ``store`` fixture."""

    async def test_default_queue_always_exists(self, store: Store) -> None:
        """``queues``: ``default`` is always among them."""
        assert await store.queues() == {"default": Queue(name="default")}
        assert await store.counts() == {"default": QueueCounts()}

    async def test_queue_is_stored_completely(self, store: Store) -> None:
        """``edit_queue``: replace a queue by the result of ``edit``; return it."""
        notes = Notes()
        store.listen(notes)
        seen: list[Queue | None] = []

        def edit(known: Queue | None) -> Queue:
            seen.append(known)
            return MAIL

        kept = await store.edit_queue("mail", edit)
        await store.edit_queue("mail", edit)

        assert kept == MAIL
        assert seen == [None, MAIL]
        assert await store.queues() == {"default": Queue(name="default"), "mail": MAIL}
        assert [news.queues for news in notes.news] == [{"mail": MAIL}]

    async def test_refused_edit_changes_no_queue(self, store: Store) -> None:
        """``edit_queue``: what ``edit`` raises is raised here."""
        results = await asyncio.gather(
            store.edit_queue("mail", lambda _: MAIL),
            store.edit_queue("mail", refused),
            return_exceptions=True,
        )

        assert results[0] == MAIL
        assert isinstance(results[1], InvalidQueue)

    async def test_pushed_task_creates_its_queue(self, store: Store) -> None:
        """``add``: an unknown queue is created."""
        notes = Notes()
        store.listen(notes)

        await store.add(make_task("a", queue="mail"))
        await store.add(make_task("b", queue="mail"))

        assert (await store.queues())["mail"] == Queue(name="mail")
        assert [news.queues for news in notes.news] == [{"mail": Queue(name="mail")}, {}]

    async def test_queue_with_tasks_is_not_deleted(self, store: Store) -> None:
        """``edit_queue``: it would be deleted, but has tasks of any state."""
        await store.restore([(make_ended("a", TaskState.DEAD, queue="mail"), [])])

        with pytest.raises(QueueInUse):
            await store.edit_queue("mail", lambda _: None)

        assert "mail" in await store.queues()

    async def test_queue_that_gets_a_task_meanwhile_is_not_deleted(self, store: Store) -> None:
        """``edit_queue`` and ``add`` may share one commit."""
        await store.edit_queue("mail", lambda _: MAIL)

        results = await asyncio.gather(
            store.add(make_task("a", queue="mail")),
            store.edit_queue("mail", lambda _: None),
            return_exceptions=True,
        )

        assert isinstance(results[1], QueueInUse)
        await assert_counts_are_true(store, ["a"])

    async def test_empty_queue_is_deleted(self, store: Store) -> None:
        """``edit_queue``: ``edit`` returns None to delete it."""
        await store.edit_queue("mail", lambda _: MAIL)
        await store.add(make_task("a", queue="mail"))
        await store.edit("a", Delete(), now=NOW)
        notes = Notes()
        store.listen(notes)

        gone = await store.edit_queue("mail", lambda _: None)
        unknown = await store.edit_queue("nobody", lambda _: None)
        queues = await store.queues()
        await store.add(make_task("b", queue="mail"))

        assert (gone, unknown) == (None, None)
        assert list(queues) == ["default"]
        assert [news.queues for news in notes.news] == [
            {"mail": None},
            {"mail": Queue(name="mail")},
        ]
        assert list(await lease_all(store)) == ["b"]
        await assert_counts_are_true(store, ["b"])

    async def test_default_queue_is_not_deleted(self, store: Store) -> None:
        """``queues``: ``default`` is always among them."""
        with pytest.raises(QueueInUse, match="cannot be deleted"):
            await store.edit_queue("default", lambda _: None)

    async def test_keys_past_their_time_are_tidied(self, store: Store) -> None:
        """``tidy``: expired keys."""
        tasks = [make_task(id, key=id) for id in "ab"]
        await store.push([Push(task=tasks[0], key_ttl=1.0), Push(task=tasks[1])], now=NOW)
        then = Moment(NOW + SECOND)

        counts = [await tidy(store, now=moment) for moment in (Moment(then - 1), then, then)]

        [pushed] = await store.push([Push(task=make_task("c", key="b"))], now=then)
        assert counts == [0, 1, 0]
        assert pushed.task_id == "b"

    async def test_unused_lanes_and_queues_are_tidied(self, store: Store) -> None:
        """``tidy``: lanes without waiting tasks and queues without tasks, unused for a day."""
        await store.edit_queue("configured", lambda _: Queue(name="configured", configured=True))
        await store.edit_queue("paused", lambda _: Queue(name="paused", paused=True))
        for queue in ("unused", "waiting", "dead"):
            await store.add(make_task(queue, queue=queue))
        await store.edit("unused", Delete(), now=NOW)
        [lease] = (await store.lease_due({make_task(queue="dead").lane: 1}, now=NOW)).leases
        await end(store, lease, Bury(Reason.REFUSED))
        notes = Notes()
        store.listen(notes)

        too_early = await tidy(store, now=Moment(NOW + DAY - 1))
        count = await tidy(store)

        left = set(await store.queues())
        assert too_early == 0
        assert count == 3  # two lanes and a queue
        assert left == {"default", "configured", "paused", "waiting", "dead"}
        assert notes.queues == {"unused": None}
        assert await store.lanes_used_since(NOW) == [make_task(queue="waiting").lane]

    async def test_task_can_be_requeued_after_its_lane_was_tidied(self, store: Store) -> None:
        """``tidy``: lanes without waiting tasks."""
        await store.add(make_task("a"))
        await end(store, await lease_one(store), Bury(Reason.REFUSED))
        await tidy(store)

        await store.edit(
            "a",
            Requeue(at=LATER),
            now=LATER,
        )

        assert await store.next_due() == {LANE: LATER}
        assert list(await lease_all(store, now=LATER)) == ["a"]

    async def test_tidied_queue_is_created_again_in_the_same_commit(self, store: Store) -> None:
        """``tidy`` and ``add`` may share one commit."""
        await store.add(make_task("a", queue="mail"))
        await store.edit("a", Delete(), now=NOW)

        await asyncio.gather(
            tidy(store), store.add(make_task("b", queue="mail", created_at=LATER))
        )

        assert "mail" in await store.queues()
        assert list(await lease_all(store)) == ["b"]
        await assert_counts_are_true(store, ["b"])

    async def test_failure_groups_without_tasks_are_tidied(self, store: Store) -> None:
        """``tidy``: failure groups without tasks."""
        await store.add(make_task("a"))
        await end(store, await lease_one(store), RetryAt(NOW))
        before = await tidy(store, now=NOW)
        await end(store, await lease_one(store), Complete())
        notes = Notes()
        store.listen(notes)

        count = await tidy(store, now=NOW)
        await store.add(make_task("b"))
        await end(store, await lease_one(store), RetryAt(NOW))

        assert (before, count) == (0, 1)
        assert len(notes.groups) == 1
        assert [found.count for found in await store.failures(TaskState.WAITING)] == [1]

    async def test_tidying_stops_at_its_limit(self, store: Store) -> None:
        """``tidy``: up to ``limit`` rows of each kind."""
        rows = [MinuteRow(minute=Moment(NOW + n * MINUTE)) for n in range(5)]
        await store.put_minutes(rows)

        counts = [await tidy(store, now=LATER, limit=2) for _ in range(4)]

        assert counts == [2, 2, 1, 0]
        assert await store.minutes("", since=NOW) == []

    async def test_labels_of_a_pruned_task_are_deleted(self, store: Store) -> None:
        """``Change``: pruning is not reported."""
        task = make_ended("a", TaskState.DEAD, labels={"l": "v"})
        await store.restore([(task, [])])
        notes = Notes()
        store.listen(notes)

        await store.prune("default", TaskState.DEAD, Retention(count=0, age=0.0), now=NOW, limit=9)

        assert await found_by(store, TaskFilter(labels=(("l", "v"),))) == []
        assert await store.failures(TaskState.DEAD) == []
        assert notes.news == []

    async def test_next_expiry_is_of_waiting_tasks(self, store: Store) -> None:
        """``next_expiry``: the earliest ``expires_at`` of all waiting tasks."""
        without = await store.next_expiry()
        await store.add(make_task("a", expires_at=Moment(NOW + 2)))
        await store.add(make_task("b", expires_at=Moment(NOW + 3)))
        await store.restore([(make_ended("c", TaskState.DEAD, expires_at=NOW), [])])

        assert without is None
        assert await store.next_expiry() == NOW + 2

    async def test_minutes_are_stored_by_queue(self, store: Store) -> None:
        """``minutes``: the rows of a queue from a moment on, oldest first."""
        full = MinuteRow(
            minute=Moment(NOW + MINUTE),
            queue="mail",
            pushed=1,
            started=2,
            succeeded=3,
            failed=4,
            died=5,
            lateness_p50=0.5,
            lateness_p95=1.5,
            duration_p50=2.5,
            duration_p95=3.5,
        )
        first = MinuteRow(minute=NOW, queue="mail")
        await store.put_minutes([full, first, MinuteRow(minute=NOW)])

        assert await store.minutes("mail", since=NOW) == [first, full]
        assert await store.minutes("mail", since=Moment(NOW + 1)) == [full]
        assert await store.minutes("", since=NOW) == [MinuteRow(minute=NOW)]

    async def test_minute_stored_again_is_replaced(self, store: Store) -> None:
        """``put_minutes``: existing rows are replaced."""
        await store.put_minutes([MinuteRow(minute=NOW, pushed=1)])
        await store.put_minutes([MinuteRow(minute=NOW, pushed=2)])

        assert await store.minutes("", since=NOW) == [MinuteRow(minute=NOW, pushed=2)]

    async def test_size_grows_with_the_stored_tasks(self, store: Store) -> None:
        """``size``: return the size of the store."""
        before = await store.size()
        await store.add(make_task("a", body=b"x" * 500_000))

        after = await store.size()

        assert 0 < before.used <= after.used - 490_000
        assert (before.free is None) == (after.free is None)

    async def test_buckets_are_stored_by_queue(self, store: Store) -> None:
        """``keep_buckets``: store when the buckets of queues are full again."""
        await store.keep_buckets({"a": bucket(NOW), "b": bucket(NOW)})
        await store.keep_buckets({"b": bucket(LATER)})
        await store.set_paused(True)

        assert await store.buckets() == {"a": bucket(NOW), "b": bucket(LATER)}

    async def test_full_buckets_are_tidied_up(self, store: Store) -> None:
        """``tidy``: buckets that are full."""
        await store.keep_buckets({"a": bucket(NOW), "b": bucket(LATER), "c": bucket(NOW)})
        await store.set_paused(True)

        counts = [await tidy(store, now=Moment(LATER - 1), limit=1) for _ in range(3)]

        assert counts == [1, 1, 0]
        assert await store.buckets() == {"b": bucket(LATER)}
        assert await store.paused() is True

    async def test_changes_are_reported_to_every_listener(self, store: Store) -> None:
        """``listen``: add a listener, which gets the news from now on."""
        one, other = Notes(), Notes()
        store.listen(one)
        store.listen(other)

        await store.add(make_task("a"))

        assert one.news == other.news
        assert one.changes == [("a", Change.PUSHED, TaskState.WAITING)]

    async def test_leases_and_ends_are_reported(self, store: Store) -> None:
        """``Listener``: receives news of leases after they were handed out."""
        await store.add(make_task("a"))
        notes = Notes()
        store.listen(notes)

        await end(store, await lease_one(store), RetryAt(NOW))
        await end(store, await lease_one(store), Bury(Reason.EXHAUSTED))
        await lease_all(store)

        assert notes.changes == [
            ("a", Change.STARTED, TaskState.RUNNING),
            ("a", Change.FAILED, TaskState.WAITING),
            ("a", Change.STARTED, TaskState.RUNNING),
            ("a", Change.DIED, TaskState.DEAD),
        ]
