"""The rules of ``Store.give_back``: leases that end without an attempt."""

from __future__ import annotations

import asyncio

import pytest

from poussetaches.core.edits import Cancel, Delete
from poussetaches.core.errors import StateConflict
from poussetaches.core.moment import DAY, HOUR, MINUTE, Moment
from poussetaches.core.responses import QueueCounts
from poussetaches.core.task import Complete, Reason, TaskState
from poussetaches.store.base import Change, Store
from tests.factories import NOW, make_task
from tests.store.driving import (
    LANE,
    Notes,
    assert_counts_are_true,
    changed,
    counts_of,
    end,
    known,
    lease_all,
    lease_one,
)

LATER = Moment(NOW + HOUR)
AHEAD = Moment(NOW + DAY)  # the time before the clock is set back to NOW
FAILED: dict[str, object] = {
    **{"attempt_count": 1, "attempt_total": 2, "round": 2, "due_at": Moment(NOW - 9)},
    **{"last_status": 418, "last_error": "teapot"},
}


CANCEL = Cancel(NOW)
CHANGE = changed(priority=7, body=b"new")


class GiveBackRules:
    """Rules for all stores about such leases. Subclasses provide the ``store`` fixture."""

    @pytest.mark.parametrize(
        ("error", "changes"),
        [
            pytest.param(None, {}, id="without an error"),
            pytest.param(
                "refused", {"last_status": None, "last_error": "refused"}, id="with an error"
            ),
        ],
    )
    async def test_task_given_back_waits_as_before(
        self, store: Store, error: str | None, changes: dict[str, object]
    ) -> None:
        """``give_back``: the task waits as before; an ``error`` becomes its last one."""
        await store.restore([(make_task("a", **FAILED), [])])
        lease = await lease_one(store)

        was_ours = await store.give_back(lease, now=LATER, error=error)

        assert was_ours is True
        assert await store.get("a") == make_task("a", **{**FAILED, **changes})
        assert await store.attempts("a") == []
        assert await store.next_due() == {LANE: NOW}
        await assert_counts_are_true(store, ["a"])

    async def test_task_given_back_can_be_leased_again_at_once(self, store: Store) -> None:
        """``give_back``: end a lease without an attempt."""
        await store.add(make_task("a"))
        first = await lease_one(store)
        await store.give_back(first, now=NOW)

        again = await lease_one(store)

        assert (again.task, again.token == first.token) == (first.task, False)
        assert await counts_of(store) == {"default": QueueCounts(running=1)}

    @pytest.mark.parametrize("error", [None, "refused"])
    async def test_task_given_back_is_reported(self, store: Store, error: str | None) -> None:
        """``give_back``: the task waits, which is reported for its lane."""
        await store.add(make_task("a"))
        lease = await lease_one(store)
        notes = Notes()
        store.listen(notes)

        await store.give_back(lease, now=LATER, error=error)

        assert notes.waits == [(LANE, NOW)]
        assert notes.changes == [("a", Change.PUT_BACK, TaskState.WAITING)]

    async def test_repeated_error_does_not_change_the_task(self, store: Store) -> None:
        """``give_back``: if none of this changes the task, nothing is written."""
        await store.restore([(make_task("a", **FAILED), [])])
        for _ in range(3):
            await store.give_back(await lease_one(store), now=NOW, error="refused")

        changes = {"last_status": None, "last_error": "refused"}
        assert await store.get("a") == make_task("a", **{**FAILED, **changes})
        await assert_counts_are_true(store, ["a"])

    async def test_task_cancelled_while_it_ran_dies_when_it_is_given_back(
        self, store: Store
    ) -> None:
        """``give_back``: a task that was cancelled while it ran is dead."""
        told = "http://app.test/told"
        await store.add(make_task("a", on_dead=told))
        lease = await lease_one(store)
        await store.edit("a", CANCEL, now=NOW)
        notes = Notes()
        store.listen(notes)

        was_ours = await store.give_back(lease, now=LATER)

        task = await known(store, "a")
        assert was_ours is True
        assert (task.state, task.reason, task.ended_at) == (
            TaskState.DEAD,
            Reason.CANCELLED,
            LATER,
        )
        assert ("a", Change.DIED, TaskState.DEAD) in notes.changes
        assert [lease.task.url for lease in (await lease_all(store, now=LATER)).values()] == [told]

    async def test_task_cancelled_as_it_is_given_back_is_not_retried(self, store: Store) -> None:
        """A cancelled task is dead, in either order of the two calls."""
        for id in "ab":
            await store.add(make_task(id))
        leases = await lease_all(store)

        await asyncio.gather(
            store.give_back(leases["a"], now=NOW),
            store.edit("a", CANCEL, now=NOW),
            store.edit("b", CANCEL, now=NOW),
            store.give_back(leases["b"], now=NOW),
        )

        for id in "ab":
            assert (await known(store, id)).reason is Reason.CANCELLED
        assert await lease_all(store) == {}
        await assert_counts_are_true(store, ["a", "b"])

    async def test_task_deleted_while_it_ran_does_not_come_back(self, store: Store) -> None:
        """``give_back``: returns whether the lease was still valid; if not, nothing is changed."""
        await store.add(make_task("a"))
        lease = await lease_one(store)
        await store.edit("a", Delete(), now=NOW)
        notes = Notes()
        store.listen(notes)

        was_ours = await store.give_back(lease, now=NOW)

        assert (was_ours, notes.news) == (False, [])
        assert (await store.get("a"), await store.next_due()) == (None, {})

    async def test_lease_given_back_twice_at_once_is_given_back_once(self, store: Store) -> None:
        """``give_back``: returns whether the lease was still valid."""
        await store.add(make_task("a"))
        lease = await lease_one(store)

        were_ours = await asyncio.gather(*(store.give_back(lease, now=NOW) for _ in range(3)))

        assert sorted(were_ours) == [False, False, True]
        await assert_counts_are_true(store, ["a"])

    async def test_old_lease_does_not_affect_the_new_one(self, store: Store) -> None:
        """``Lease``: ``token`` distinguishes it from other leases of the same task."""
        await store.add(make_task("a"))
        old = await lease_one(store)
        await store.give_back(old, now=NOW)
        new = await lease_one(store)

        late = await store.give_back(old, now=NOW)
        ours = await end(store, new, Complete())

        assert (late, ours) == (False, True)
        assert (await known(store, "a")).state is TaskState.SUCCEEDED

    async def test_task_edited_after_it_was_given_back_is_delivered_as_edited(
        self, store: Store
    ) -> None:
        """``edit``: edit a task as ``edited`` does."""
        await store.add(make_task("a"))
        lease = await lease_one(store)
        with pytest.raises(StateConflict):
            await store.edit("a", CHANGE, now=NOW)
        await store.give_back(lease, now=NOW)
        edited = await store.edit("a", CHANGE, now=NOW)

        assert (await lease_one(store)).task == edited == make_task("a", priority=7, body=b"new")

    @pytest.mark.parametrize("corrected", ["before", "after"])
    async def test_correction_of_a_leased_task_is_not_undone(
        self, store: Store, corrected: str
    ) -> None:
        """``pull_back``: the task is due at once, although its lease has a later time."""
        planned = {"created_at": Moment(AHEAD - HOUR), "run_at": Moment(AHEAD - MINUTE)}
        await store.add(make_task("a", **planned))
        lease = await lease_one(store, now=AHEAD)
        notes = Notes()

        async def correct() -> None:
            await store.pull_back(now=NOW, was=AHEAD, confirmed=NOW)

        if corrected == "before":
            await correct()
        store.listen(notes)
        await store.give_back(lease, now=NOW)
        if corrected == "after":
            await correct()

        assert await store.next_due() == {LANE: NOW}
        assert min(run_at for _, run_at in notes.waits) == NOW
