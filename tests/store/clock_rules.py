"""The rules of ``Store`` about the clock: its record, and the effects of a clock leap."""

from __future__ import annotations

import msgspec
import pytest

from poussetaches.core.errors import KeyConflict
from poussetaches.core.moment import DAY, HOUR, MINUTE, SECOND, ClockRecord, Moment, later
from poussetaches.core.queue import Retention
from poussetaches.core.task import Bury, Reason, RetryAt, Task, TaskState
from poussetaches.store.base import Finish, LastUse, Push, Store
from poussetaches.store.minute_row import MinuteRow
from tests.factories import NOW, make_ended, make_task
from tests.store.driving import LANE, Notes, end, known, lease_all, lease_one

AHEAD = Moment(NOW + DAY)  # the time before the clock is set back to NOW
CLOCK = ClockRecord(boot_id="b", seen=Moment(5), confirmed=Moment(3), highest=None)
KEEP = Retention(count=1000, age=86_400.0)


async def set_back(store: Store, *, now: Moment = NOW, confirmed: Moment = NOW) -> int:
    """Correct the tasks after the clock was a day ahead."""
    return await store.pull_back(now=now, was=AHEAD, confirmed=confirmed)


def pushed_ahead(id: str = "a", **fields: object) -> Task:
    """Return a task that was pushed while the clock was ahead."""
    at = Moment(AHEAD - MINUTE)
    return make_task(id, **{"created_at": at, "run_at": at, **fields})


class ClockRules:
    """Rules for all stores about the clock. Subclasses provide the ``store`` fixture."""

    async def test_record_of_the_clock_is_kept(self, store: Store) -> None:
        """``keep_clock``: store the clock record."""
        before = await store.clock()
        await store.keep_clock(CLOCK)
        latest = msgspec.structs.replace(CLOCK, boot_id="c", highest=Moment(2))
        await store.keep_clock(latest)

        assert (before, await store.clock()) == (None, latest)

    async def test_rows_show_when_the_store_was_last_in_use(self, store: Store) -> None:
        """``last_use``: by the task added last, and by the latest minute row."""
        new = await store.last_use()
        await store.add(make_task("a", created_at=AHEAD))
        await store.add(make_task("b"))
        await store.put_minutes([MinuteRow(minute=AHEAD), MinuteRow(minute=NOW)])

        assert new == LastUse(pushed_at=None, minute=None)
        assert await store.last_use() == LastUse(pushed_at=NOW, minute=AHEAD)

    async def test_key_expires_by_the_confirmed_time(self, store: Store) -> None:
        """``push``: keys expire by ``confirmed``, and rows are dated with ``now``."""
        push = Push(task=make_task("a", key="k"), key_ttl=60.0)
        [first] = await store.push([push], now=NOW)
        again = Push(task=make_task("b", key="k"), key_ttl=60.0)

        [stands] = await store.push([again], now=AHEAD, confirmed=later(NOW, 59))
        with pytest.raises(KeyConflict):
            other = make_task("c", key="k", body=b"other")
            await store.push([Push(task=other)], now=AHEAD, confirmed=later(NOW, 59))
        [new] = await store.push([again], now=AHEAD, confirmed=later(NOW, 60))
        [later_on] = await store.push([again], now=later(AHEAD, 59))

        assert (first.task_id, stands.task_id) == ("a", "a")
        assert (new.task_id, later_on.task_id) == ("b", "b")

    async def test_task_expires_by_the_confirmed_time(self, store: Store) -> None:
        """``expire``: tasks expire by ``confirmed``."""
        await store.add(make_task("a", expires_at=later(NOW, 60)))

        early = await store.expire(now=AHEAD, confirmed=later(NOW, 59), limit=10)
        passed = await store.expire(now=AHEAD, confirmed=later(NOW, 60), limit=10)

        assert (early, passed) == (0, 1)
        assert (await known(store, "a")).ended_at == AHEAD

    async def test_retention_goes_by_the_confirmed_time(self, store: Store) -> None:
        """``prune``: retention goes by ``confirmed``."""
        await store.restore([(make_ended("a", TaskState.DEAD), [])])
        dead = ("default", TaskState.DEAD, KEEP)

        early = await store.prune(*dead, now=AHEAD, confirmed=NOW, limit=10)
        passed = await store.prune(*dead, now=AHEAD, limit=10)

        assert (early, passed) == (0, 1)

    async def test_tidying_goes_by_the_confirmed_time(self, store: Store) -> None:
        """``tidy``: keys expire by ``confirmed``."""
        await store.push([Push(task=make_task("a", key="k"), key_ttl=60.0)], now=NOW)

        early = await store.tidy(now=AHEAD, confirmed=NOW, limit=10)
        passed = await store.tidy(now=AHEAD, limit=10)

        assert (early, passed) == (0, 1)

    async def test_expired_tasks_are_skipped_on_request(self, store: Store) -> None:
        """``lease_due``: with ``skip_expired``, tasks past ``expires_at`` are skipped."""
        for id, priority, end_at in (("a", 5, NOW), ("b", 5, NOW), ("c", 0, NOW), ("d", 0, AHEAD)):
            await store.add(make_task(id, priority=priority, expires_at=end_at))
        await store.add(make_task("e", run_at=Moment(NOW + 7)))

        leased = await store.lease_due({LANE: 2}, now=NOW, skip_expired=True)
        all_of_them = await store.lease_due({LANE: 9}, now=NOW)

        assert [lease.task.id for lease in leased.leases] == ["d"]
        assert leased.next_due == {LANE: NOW + 7}
        assert [lease.task.id for lease in all_of_them.leases] == ["a", "b", "c"]

    async def test_tasks_that_were_due_are_due_after_the_clock_was_set_back(
        self, store: Store
    ) -> None:
        """``pull_back``: tasks pushed without a delay, run manually, or requeued."""
        at = Moment(AHEAD - MINUTE)
        for task in (
            pushed_ahead("at once"),
            pushed_ahead("delayed", run_at=Moment(at + SECOND)),
            make_task("told to run", run_at=at, due_at=NOW, forced=True),
            make_task("requeued", round=2, run_at=at),
            make_task("from long ago", created_at=at, run_at=Moment(AHEAD + DAY), forced=True),
        ):
            await store.restore([(task, [])])
        notes = Notes()
        store.listen(notes)

        count = await set_back(store)

        forced = LANE._replace(forced=True)
        assert count == 4
        assert notes.waits == [(LANE, NOW), (forced, NOW)]
        assert sorted(await lease_all(store)) == ["at once", "delayed", "requeued", "told to run"]
        assert (await known(store, "at once")).due_at == NOW

    async def test_delayed_tasks_stay_unchanged_when_the_clock_is_set_back(
        self, store: Store
    ) -> None:
        """``pull_back``: other tasks stay unchanged."""
        tasks = [
            make_task("due before", created_at=Moment(NOW - 5), run_at=NOW),
            make_task("delayed before", run_at=Moment(AHEAD - 1)),
            pushed_ahead("delayed for longer", run_at=Moment(AHEAD + 1)),
            make_task("requeued for later", round=2, run_at=Moment(AHEAD + 1)),
            make_ended("dead", TaskState.DEAD, created_at=AHEAD, run_at=AHEAD),
        ]
        await store.restore([(task, []) for task in tasks])

        assert await set_back(store) == 0
        assert [await store.get(task.id) for task in tasks] == tasks

    async def test_delay_of_a_retry_starts_again_when_the_clock_is_set_back(
        self, store: Store
    ) -> None:
        """``pull_back``: after a failure later than ``confirmed``, the delay starts at ``now``."""
        await store.add(make_task("a"))
        lease = await lease_one(store)
        failed_at = Moment(AHEAD - HOUR)
        await end(store, lease, RetryAt(later(failed_at, 90)), now=failed_at)

        confirmed = await set_back(store, confirmed=failed_at)
        counts = [await set_back(store) for _ in range(2)]
        once_more = await set_back(store, now=Moment(NOW - 5 * SECOND))

        assert (confirmed, counts, once_more) == (0, [1, 0], 0)
        assert (await known(store, "a")).run_at == later(NOW, 90)

    async def test_tasks_are_corrected_in_several_commits(self, store: Store) -> None:
        """``pull_back``: returns the number of changed tasks."""
        await store.push([Push(task=pushed_ahead(f"task-{n}")) for n in range(1200)], now=AHEAD)

        assert [await set_back(store), await set_back(store)] == [1200, 0]

    @pytest.mark.parametrize(
        ("task", "run_at"),
        [
            pytest.param(pushed_ahead(), NOW, id="at once"),
            pytest.param(pushed_ahead(created_at=NOW, round=2), NOW, id="requeued"),
            pytest.param(pushed_ahead(created_at=NOW), AHEAD - MINUTE, id="delayed"),
        ],
    )
    async def test_task_put_back_after_the_clock_was_set_back_keeps_only_its_own_delay(
        self, store: Store, task: Task, run_at: Moment
    ) -> None:
        """``give_back``: due at once if the clock was set back, unless it was delayed."""
        await store.restore([(task, [])])
        lease = await lease_one(store, now=AHEAD)

        await store.give_back(lease, now=NOW)

        assert (await known(store, "a")).run_at == run_at

    async def test_ended_task_stays_unchanged_when_the_clock_is_set_back(
        self, store: Store
    ) -> None:
        """``pull_back`` changes only waiting tasks."""
        await store.add(pushed_ahead("a"))
        lease = await lease_one(store, now=AHEAD)
        await store.finish([Finish(lease, Bury(Reason.EXPIRED))], now=AHEAD)

        assert await set_back(store) == 0
        assert await store.next_due() == {}
