"""The rules of ``Store`` about schedules, the pause, maintenance, and its own life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest

from poussetaches.core.changes import NO_CHANGES
from poussetaches.core.edits import Delete, Patch
from poussetaches.core.errors import StoreClosed
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import DAY, HOUR, SECOND, ClockRecord, Moment
from poussetaches.core.queue import BucketRecord, Retention
from poussetaches.core.responses import QueueCounts
from poussetaches.core.schedule import declared_as_written
from poussetaches.core.task import (
    Attempt,
    Bury,
    Complete,
    DeliveryForm,
    Reason,
    RetryAt,
    TaskState,
)
from poussetaches.store.base import Finish, Lease, Push, Store
from poussetaches.store.minute_row import MinuteRow
from tests.factories import NOW, make_attempt, make_ended, make_schedule, make_task
from tests.store.driving import (
    LANE,
    GiveBack,
    Notes,
    assert_counts_are_true,
    counts_of,
    end,
    fire,
    fired,
    known,
    lease_all,
    lease_one,
    put_schedule,
)

NEXT = Moment(NOW + HOUR)
FOREVER = Retention(count=1_000_000, age=1e9)
BUCKET = BucketRecord(boot_id="b", full_at_uptime=1, full_at=NOW)
CLOCK = ClockRecord(boot_id="b", seen=NOW, confirmed=NOW, highest=None)

# Every method that touches what is stored.
CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "add": lambda store: store.add(make_task()),
    "restore": lambda store: store.restore([(make_task(), [])]),
    "get": lambda store: store.get("a"),
    "attempts": lambda store: store.attempts("a"),
    "list_enveloped": lambda store: store.list_enveloped(TaskState.DEAD, after=None, limit=1),
    "lease_due": lambda store: store.lease_due({LANE: 1}, now=NOW),
    "next_due": lambda store: store.next_due(),
    "pull_back": lambda store: store.pull_back(now=NOW, was=NEXT, confirmed=NOW),
    "finish": lambda store: store.finish([Finish(Lease(make_task(), 1), Complete())], now=NOW),
    "push": lambda store: store.push([Push(task=make_task())], now=NOW),
    "tasks": lambda store: store.tasks(TaskFilter(), after=None, limit=1),
    "select": lambda store: store.select(TaskFilter(), after=None, limit=1),
    "failures": lambda store: store.failures(TaskState.DEAD),
    "count_ahead": lambda store: store.count_ahead("a", now=NOW, limit=1),
    "edit": lambda store: store.edit("a", Patch(NO_CHANGES), now=NOW),
    "edit_slice": lambda store: store.edit_slice(
        [1], Delete(), start=0, filter=TaskFilter(), now=NOW
    ),
    "queues": lambda store: store.queues(),
    "edit_queue": lambda store: store.edit_queue("a", lambda queue: queue),
    "buckets": lambda store: store.buckets(),
    "keep_buckets": lambda store: store.keep_buckets({"a": BUCKET}),
    "edit_schedule": lambda store: store.edit_schedule("a", lambda found: found, now=NOW),
    "replace_schedules": lambda store: store.replace_schedules("app", 1, [], now=NOW),
    "schedule": lambda store: store.schedule("a"),
    "fire_by_hand": lambda store: store.fire_by_hand("a", make_task()),
    "lanes_used_since": lambda store: store.lanes_used_since(NOW),
    "tidy": lambda store: store.tidy(now=NOW, limit=1),
    "clock": lambda store: store.clock(),
    "keep_clock": lambda store: store.keep_clock(CLOCK),
    "last_use": lambda store: store.last_use(),
    "next_expiry": lambda store: store.next_expiry(),
    "put_minutes": lambda store: store.put_minutes([MinuteRow(minute=NOW)]),
    "minutes": lambda store: store.minutes("", since=NOW),
    "size": lambda store: store.size(),
    "schedules": lambda store: store.schedules("original"),
    "due_schedules": lambda store: store.due_schedules(NOW),
    "stranded_schedules": lambda store: store.stranded_schedules(NOW),
    "next_schedule_at": lambda store: store.next_schedule_at(),
    "fire": lambda store: store.fire(make_schedule(), make_task(), now=NOW),
    "move_schedule": lambda store: store.move_schedule(make_schedule()),
    "latest_runs": lambda store: store.latest_runs(["a"]),
    "delete_schedules": lambda store: store.delete_schedules("original", now=NOW),
    "paused": lambda store: store.paused(),
    "set_paused": lambda store: store.set_paused(True),
    "expire": lambda store: store.expire(now=NOW, limit=1),
    "prune": lambda store: store.prune("default", TaskState.DEAD, FOREVER, now=NOW, limit=1),
    "shrink": lambda store: store.shrink(),
    "counts": lambda store: store.counts(),
    "recover": lambda store: store.recover(),
}


async def prune(store: Store, keep: Retention, *, limit: int = 1000) -> int:
    """Prune the default queue's dead tasks."""
    return await store.prune("default", TaskState.DEAD, keep, now=NOW, limit=limit)


class ScheduleRules:
    """Rules for all stores besides tasks. Subclasses provide the ``store`` fixture."""

    async def test_schedule_is_stored_completely(self, store: Store) -> None:
        """``edit_schedule``: store a schedule."""
        template = make_task(
            "t", body=b"\xff", headers={"X": "é"}, expected=(200,), delivery=DeliveryForm.ENVELOPE
        )
        schedule = make_schedule(
            task=template,
            timezone="Europe/Paris",
            last_fired_at=Moment(NOW - HOUR),
            last_task_id="before",
        )
        schedule = declared_as_written(schedule)

        is_new = await put_schedule(store, schedule)

        assert is_new is True
        assert await store.schedules("original") == [schedule]

    async def test_schedule_of_an_existing_name_is_not_changed(self, store: Store) -> None:
        """``edit_schedule``: ``edit`` gets the schedule of this name, and may keep it."""
        await put_schedule(store, make_schedule("a"))

        is_new = await put_schedule(store, make_schedule("a", next_run_at=Moment(NOW + 5)))

        assert is_new is False
        assert await store.schedules("original") == [make_schedule("a")]

    async def test_schedule_put_many_times_at_once_is_new_once(self, store: Store) -> None:
        """``edit_schedule``: applications declare the same schedule many times."""
        were_new = await asyncio.gather(*(put_schedule(store, make_schedule()) for _ in range(5)))

        assert sorted(were_new) == [False] * 4 + [True]

    async def test_schedules_belong_to_owners(self, store: Store) -> None:
        """``schedules``: return an owner's schedules, earliest ``next_run_at`` first."""
        late = make_schedule("late", next_run_at=NEXT)
        early = make_schedule("soon", next_run_at=NOW)
        other = make_schedule("other", owner="somebody")
        for schedule in (late, early, other):
            await put_schedule(store, schedule)

        assert await store.schedules("original") == [early, late]
        assert await store.schedules("somebody") == [other]
        assert await store.schedules("nobody") == []

    async def test_due_schedules_have_reached_their_moment(self, store: Store) -> None:
        """``due_schedules``: return the schedules with ``next_run_at <= now``."""
        await put_schedule(store, make_schedule("due", next_run_at=NOW))
        await put_schedule(store, make_schedule("early", next_run_at=Moment(NOW + 1)))

        assert await store.due_schedules(NOW) == [make_schedule("due", next_run_at=NOW)]

    async def test_next_schedule_is_the_earliest(self, store: Store) -> None:
        """``next_schedule_at``: when the next schedule is due; None if there is none."""
        without = await store.next_schedule_at()
        await put_schedule(store, make_schedule("a", next_run_at=NEXT))
        await put_schedule(store, make_schedule("b", owner="other", next_run_at=NOW))

        assert without is None
        assert await store.next_schedule_at() == NOW

    async def test_stranded_schedules_fired_later_than_a_moment(self, store: Store) -> None:
        """``stranded_schedules``: schedules that were created or last fired after a moment."""
        far = make_schedule("far", last_fired_at=Moment(NOW + 1))
        for schedule in (far, make_schedule("near", last_fired_at=NOW), make_schedule("never")):
            await put_schedule(store, schedule)

        assert await store.stranded_schedules(NOW) == [far]

    async def test_moved_schedule_has_the_moments_given(self, store: Store) -> None:
        """``move_schedule``: store a schedule's moments."""
        await put_schedule(store, make_schedule(last_fired_at=NEXT))
        moved = make_schedule(anchor_at=NOW, next_run_at=NEXT, last_fired_at=None)

        await store.move_schedule(moved)

        assert await store.schedules("original") == [moved]

    async def test_deleted_schedule_stays_deleted(self, store: Store) -> None:
        """``move_schedule``: unless it was deleted."""
        await store.move_schedule(make_schedule())

        assert await store.schedules("original") == []

    async def test_firing_adds_a_run_and_advances(self, store: Store) -> None:
        """``fire``: advance a schedule and add this run of it."""
        schedule = make_schedule("s")
        await put_schedule(store, schedule)

        was_added = await fire(store, schedule, "run")

        [kept] = await store.schedules("original")
        assert was_added is True
        assert await store.get("run") == make_task("run", schedule="s")
        assert (kept.last_fired_at, kept.next_run_at, kept.last_task_id) == (NOW, NEXT, "run")
        assert await store.due_schedules(NOW) == []
        await assert_counts_are_true(store, ["run"])

    async def test_running_run_prevents_the_next(self, store: Store) -> None:
        """``fire``: a last run blocks if it is running."""
        schedule = make_schedule("s")
        await put_schedule(store, schedule)
        await fire(store, schedule, "first")
        await end(store, await lease_one(store), RetryAt(NOW))
        lease = await lease_one(store)

        was_added = await fire(store, schedule, "second", occurrence=NEXT)

        [kept] = await store.schedules("original")
        assert was_added is False
        assert await store.get("second") is None
        assert (kept.last_fired_at, kept.next_run_at) == (NEXT, NEXT + HOUR)
        assert await end(store, lease, Complete()) is True

    async def test_run_before_its_first_attempt_prevents_the_next(self, store: Store) -> None:
        """``fire``: a last run blocks if it has not had its first attempt."""
        schedule = make_schedule("s")
        await put_schedule(store, schedule)
        await fire(store, schedule, "first")

        was_added = await fire(store, schedule, "second", occurrence=NEXT)

        assert was_added is False
        assert (await known(store, "first")).state is TaskState.WAITING
        await assert_counts_are_true(store, ["first", "second"])

    async def test_failing_run_is_superseded(self, store: Store) -> None:
        """``fire``: one that waits for a retry dies as *superseded*."""
        schedule = make_schedule("s")
        await put_schedule(store, schedule)
        await fire(store, schedule, "first")
        await end(store, await lease_one(store), RetryAt(Moment(NEXT + HOUR)))

        was_added = await fire(store, schedule, "second", occurrence=NEXT)

        first = await known(store, "first")
        assert was_added is True
        assert (first.state, first.reason, first.ended_at) == (
            TaskState.DEAD,
            Reason.SUPERSEDED,
            NEXT,
        )
        assert (await known(store, "second")).state is TaskState.WAITING
        await assert_counts_are_true(store, ["first", "second"])

    @pytest.mark.parametrize("move", [Complete(), Bury(Reason.EXHAUSTED)], ids=["done", "dead"])
    async def test_ended_run_does_not_prevent_the_next(
        self, store: Store, move: Complete | Bury
    ) -> None:
        """``fire``: the original's schedule ended with its first dead run."""
        schedule = make_schedule("s")
        await put_schedule(store, schedule)
        await fire(store, schedule, "first")
        await end(store, await lease_one(store), move)

        was_added = await fire(store, schedule, "second", occurrence=NEXT)

        assert was_added is True

    async def test_runs_of_other_schedules_do_not_prevent_the_next(self, store: Store) -> None:
        """``fire``: the last run of this schedule."""
        one, other = make_schedule("one"), make_schedule("other")
        await put_schedule(store, one)
        await put_schedule(store, other)
        await fire(store, one, "first")

        was_added = await fire(store, other, "second")

        assert was_added is True

    async def test_occurrence_fires_once(self, store: Store) -> None:
        """``fire``: a schedule that has already fired this occurrence stays unchanged."""
        schedule = make_schedule("s")
        await put_schedule(store, schedule)
        await fire(store, schedule, "first", occurrence=NEXT)
        await end(store, await lease_one(store, now=NEXT), Complete())
        before = await store.schedules("original")

        again = await fire(store, schedule, "again", occurrence=NEXT)
        earlier = await fire(store, schedule, "earlier", occurrence=NOW)

        assert (again, earlier) == (False, False)
        assert await store.schedules("original") == before
        assert await store.get("again") is None

    async def test_occurrence_fired_many_times_at_once_fires_once(self, store: Store) -> None:
        """``fire``: each method is atomic, and many calls may share one commit."""
        schedule = make_schedule("s")
        await put_schedule(store, schedule)

        were_added = await asyncio.gather(*(fire(store, schedule, f"run-{n}") for n in range(4)))

        assert sorted(were_added) == [False, False, False, True]
        assert await counts_of(store) == {"default": QueueCounts(waiting=1)}

    async def test_schedule_that_was_changed_meanwhile_does_not_fire_by_its_old_times(
        self, store: Store
    ) -> None:
        """``fire``: one that was changed so that it is not due yet stays unchanged."""
        changed = make_schedule("s", cron="@every 10h", next_run_at=Moment(NOW + HOUR))
        await put_schedule(store, changed)

        was_added = await fire(store, make_schedule("s"), "run")
        await store.move_schedule(fired(make_schedule("s")))

        assert was_added is False
        assert await store.schedule("s") == changed
        assert await store.get("run") is None

    async def test_deleted_schedule_does_not_fire(self, store: Store) -> None:
        """``fire``: a schedule that was deleted stays unchanged."""
        was_added = await fire(store, make_schedule("gone"), "run")

        assert was_added is False
        assert await store.get("run") is None
        assert await store.schedules("original") == []

    async def test_latest_runs_are_those_added_last(self, store: Store) -> None:
        """``latest_runs``: return the latest run of each schedule that still has one."""
        for name in ("s", "without"):
            await put_schedule(store, make_schedule(name))
        await fire(store, make_schedule("s"), "first")
        await end(store, await lease_one(store), Complete())
        await fire(store, make_schedule("s"), "second", occurrence=NEXT)
        await end(store, await lease_one(store, now=NEXT), RetryAt(NEXT), now=NEXT)

        latest = await store.latest_runs(["s", "without", "unknown"])

        assert list(latest) == ["s"]
        assert latest["s"].task == await store.get("second")
        assert latest["s"].last_attempt == latest["s"].last_failure == make_attempt(1)

    async def test_waiting_runs_of_deleted_schedules_are_deleted(self, store: Store) -> None:
        """``delete_schedules``: delete an owner's schedules and their waiting runs."""
        for name in ("failing", "waiting"):
            await put_schedule(store, make_schedule(name))
        await put_schedule(store, make_schedule("theirs", owner="somebody"))
        await fire(store, make_schedule("failing"), "a")
        await end(store, await lease_one(store), RetryAt(NOW))
        await fire(store, make_schedule("waiting"), "b")
        await fire(store, make_schedule("theirs", owner="somebody"), "c")
        await store.add(make_task("d"))

        count = await store.delete_schedules("original", now=NOW)

        assert count == 2
        assert await store.schedules("original") == []
        assert len(await store.schedules("somebody")) == 1
        assert [await store.get("a"), await store.get("b")] == [None, None]
        assert await store.attempts("a") == []
        assert sorted(await lease_all(store)) == ["c", "d"]
        await assert_counts_are_true(store, list("abcd"))

    async def test_ended_runs_outlive_their_schedule(self, store: Store) -> None:
        """``delete_schedules``: and their waiting runs."""
        await put_schedule(store, make_schedule("s"))
        await fire(store, make_schedule("s"), "a")
        await end(store, await lease_one(store), Complete())

        await store.delete_schedules("original", now=NOW)

        assert (await known(store, "a")).state is TaskState.SUCCEEDED

    async def test_owner_without_schedules_loses_nothing(self, store: Store) -> None:
        """``delete_schedules``: return the number of schedules."""
        assert await store.delete_schedules("nobody", now=NOW) == 0

    @pytest.mark.parametrize(
        ("move", "attempts"),
        [
            pytest.param(RetryAt(NEXT), [make_attempt()], id="retry"),
            pytest.param(GiveBack(), [], id="put back"),
        ],
    )
    async def test_run_cancelled_while_it_runs_is_not_repeated(
        self, store: Store, move: RetryAt | GiveBack, attempts: list[Attempt]
    ) -> None:
        """``finish``, ``give_back``: a task that was cancelled while it ran is dead."""
        await put_schedule(store, make_schedule("s"))
        await fire(store, make_schedule("s"), "a")
        lease = await lease_one(store)
        await store.delete_schedules("original", now=NOW)
        running = await known(store, "a")

        was_ours = await end(store, lease, move, now=NEXT)

        task = await known(store, "a")
        assert (running.state, was_ours) == (TaskState.RUNNING, True)
        assert (task.state, task.reason) == (TaskState.DEAD, Reason.CANCELLED)
        assert task.ended_at == NEXT
        assert await store.attempts("a") == attempts
        await assert_counts_are_true(store, ["a"])

    async def test_cancelled_run_may_still_succeed(self, store: Store) -> None:
        """``delete_schedules``: its attempt ends and is not repeated."""
        await put_schedule(store, make_schedule("s"))
        await fire(store, make_schedule("s"), "a")
        lease = await lease_one(store)
        await store.delete_schedules("original", now=NOW)

        await end(store, lease, Complete())

        assert (await known(store, "a")).state is TaskState.SUCCEEDED
        await assert_counts_are_true(store, ["a"])

    @pytest.mark.parametrize("first", ["end", "delete"])
    async def test_run_that_ends_as_it_is_cancelled_does_not_stay_running(
        self, store: Store, first: str
    ) -> None:
        """``delete_schedules`` and ``finish`` may share one commit, in either order."""
        await put_schedule(store, make_schedule("s"))
        await fire(store, make_schedule("s"), "a")
        lease = await lease_one(store)
        calls: list[Coroutine[object, object, object]] = [
            end(store, lease, RetryAt(NEXT)),
            store.delete_schedules("original", now=NOW),
        ]

        await asyncio.gather(*(calls if first == "end" else reversed(calls)))

        assert await store.next_due() == {}
        assert await store.schedules("original") == []
        await assert_counts_are_true(store, ["a"])

    async def test_pause_is_stored(self, store: Store) -> None:
        """``set_paused``: pause or resume the server."""
        seen = [await store.paused()]

        for paused in (True, True, False):
            await store.set_paused(paused)
            seen.append(await store.paused())

        assert seen == [False, True, True, False]

    async def test_changes_of_schedules_and_the_pause_are_reported(self, store: Store) -> None:
        """``Listener``: receives news of changes after their commit."""
        notes = Notes()
        store.listen(notes)
        seen = []
        for change in (
            put_schedule(store, make_schedule("s")),
            fire(store, make_schedule("s"), "run"),
            store.move_schedule(fired(make_schedule("s"))),
            store.delete_schedules("original", now=NOW),
        ):
            await change
            seen.append(notes.schedule_changes)

        await store.set_paused(True)
        await store.set_paused(False)

        assert seen == [1, 2, 3, 4]
        assert notes.waits == [(LANE, NOW)]
        assert notes.pauses == [True, False]

    # ExpireCall

    async def test_expired_waiting_tasks_are_buried(self, store: Store) -> None:
        """``expire``: bury waiting tasks past their ``expires_at``; return their number."""
        await store.add(make_task("past", expires_at=Moment(NOW - 1)))
        await store.add(make_task("now", expires_at=NOW))
        await store.add(make_task("later", expires_at=Moment(NOW + 1)))
        await store.add(make_task("never"))
        delayed = make_task("delayed", expires_at=NOW, run_at=NEXT, attempt_count=1)
        await store.restore([(delayed, []), (make_ended("d", TaskState.DEAD, expires_at=NOW), [])])

        count = await store.expire(now=NOW, limit=10)

        now = await known(store, "now")
        assert count == 3
        assert (now.state, now.reason, now.ended_at) == (TaskState.DEAD, Reason.EXPIRED, NOW)
        assert sorted(await lease_all(store)) == ["later", "never"]
        await assert_counts_are_true(store, ["past", "now", "later", "never", "delayed", "d"])

    async def test_leased_task_does_not_expire(self, store: Store) -> None:
        """``expire``: leased tasks are not buried, and hide no others."""
        await store.add(make_task("leased", expires_at=Moment(NOW - 1)))
        lease = await lease_one(store)
        await store.add(make_task("waiting", expires_at=NOW))

        count = await store.expire(now=NOW, limit=1)

        assert count == 1
        assert (await known(store, "waiting")).state is TaskState.DEAD
        assert await end(store, lease, Complete()) is True

    async def test_expiring_stops_at_its_limit(self, store: Store) -> None:
        """``expire``: bury up to ``limit``."""
        for n in range(5):
            await store.add(make_task(str(n), expires_at=Moment(NOW - n)))

        counts = [await store.expire(now=NOW, limit=2) for _ in range(4)]

        assert counts == [2, 2, 1, 0]
        assert await counts_of(store) == {"default": QueueCounts(dead=5)}

    async def test_tasks_older_than_the_age_are_pruned(self, store: Store) -> None:
        """``prune``: tasks older than ``keep.age`` are deleted. Returns their number."""
        for id, age in [("old", DAY + SECOND), ("young", DAY - SECOND), ("new", 0)]:
            task = make_ended(id, TaskState.DEAD, ended_at=Moment(NOW - age))
            await store.restore([(task, [make_attempt()])])

        count = await prune(store, Retention(count=1000, age=86_400.0))

        assert count == 1
        assert await store.get("old") is None
        assert await store.attempts("old") == []
        await assert_counts_are_true(store, ["old", "young", "new"])
        assert await counts_of(store) == {"default": QueueCounts(dead=2)}

    async def test_tasks_above_the_count_are_pruned_oldest_first(self, store: Store) -> None:
        """``prune``: tasks in excess of ``keep.count`` are deleted, the earliest ended first."""
        for n in (3, 1, 4, 0, 2):
            task = make_ended(str(n), TaskState.DEAD, ended_at=Moment(NOW - n))
            await store.restore([(task, [])])

        count = await prune(store, Retention(count=2, age=1e9))

        assert count == 3
        assert [await store.get(str(n)) is not None for n in range(5)] == [True] * 2 + [False] * 3

    async def test_pruning_stops_at_its_limit(self, store: Store) -> None:
        """``prune``: delete up to ``limit``."""
        ended = [make_ended(str(n), TaskState.DEAD) for n in range(5)]
        await store.restore([(task, []) for task in ended])

        counts = [await prune(store, Retention(count=0, age=1e9), limit=2) for _ in range(4)]

        assert counts == [2, 2, 1, 0]
        assert await counts_of(store) == {}

    async def test_concurrent_pruning_deletes_no_more(self, store: Store) -> None:
        """``prune``: each method is atomic, and many calls may share one commit."""
        ended = [make_ended(str(n), TaskState.DEAD) for n in range(6)]
        await store.restore([(task, []) for task in ended])

        keep = Retention(count=3, age=1e9)

        counts = await asyncio.gather(prune(store, keep), prune(store, keep))

        assert sorted(counts) == [0, 3]
        assert await counts_of(store) == {"default": QueueCounts(dead=3)}

    async def test_only_tasks_of_the_queue_and_state_are_pruned(self, store: Store) -> None:
        """``prune``: delete a queue's ended tasks."""
        await store.restore(
            [
                (make_ended("dead", TaskState.DEAD), []),
                (make_ended("done", TaskState.SUCCEEDED), []),
                (make_ended("mail", TaskState.DEAD, queue="mail"), []),
                (make_task("waiting", attempt_count=1), []),
            ]
        )

        count = await prune(store, Retention(count=0, age=0.0))

        assert count == 1
        assert await store.get("dead") is None
        assert sorted(await counts_of(store)) == ["default", "mail"]
        await assert_counts_are_true(store, ["done", "mail", "waiting"])

    async def test_pruning_an_unknown_queue_deletes_nothing(self, store: Store) -> None:
        """``prune`` returns the number of deleted tasks."""
        assert await store.prune("nobody", TaskState.DEAD, FOREVER, now=NOW, limit=1) == 0

    async def test_shrinking_loses_nothing(self, store: Store) -> None:
        """``shrink``: give space of deleted rows back to the disk."""
        ended = [make_ended(str(n), TaskState.DEAD, body=b"x" * 5000) for n in range(50)]
        await store.restore([(task, []) for task in ended])
        await prune(store, Retention(count=1, age=1e9))

        await store.shrink()

        assert await store.get("49") == ended[49]
        await assert_counts_are_true(store, ["49"])

    async def test_healthy_store_has_no_trouble(self, store: Store) -> None:
        """``trouble`` is None if the store can write."""
        await store.add(make_task("a"))

        await store.recover()

        assert store.trouble is None
        assert store.unreadable_count == 0
        assert await store.get("a") == make_task("a")

    async def test_store_may_be_closed_twice(self, store: Store) -> None:
        """``close``: may be called twice."""
        await store.close()

        await store.close()

        with pytest.raises(StoreClosed):
            await store.get("a")

    @pytest.mark.parametrize("name", CALLS)
    async def test_closed_store_refuses_every_call(self, store: Store, name: str) -> None:
        """All of them raise ``StoreUnavailable``, here ``StoreClosed``."""
        await store.close()

        with pytest.raises(StoreClosed):
            await CALLS[name](store)

    async def test_closing_finishes_pending_writes(self, store: Store) -> None:
        """``close``: finish pending operations and release all resources."""
        adding = [asyncio.create_task(store.add(make_task(str(n)))) for n in range(20)]
        await asyncio.wait(adding, timeout=0)

        await store.close()

        results = await asyncio.gather(*adding, return_exceptions=True)
        assert results == [None] * 20
