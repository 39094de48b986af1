"""The rules of ``Store`` about edits: of one task, of many, and the callbacks of ends."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from poussetaches.core import edits
from poussetaches.core.changes import NO_CHANGES, Changes
from poussetaches.core.edits import Patch
from poussetaches.core.errors import InvalidTask, StateConflict
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.queue import CALLBACKS_QUEUE, Lane, Queue, QueueOverrides
from poussetaches.core.responses import QueueCounts
from poussetaches.core.task import Bury, Complete, Reason, RetryAt, Task, TaskState
from poussetaches.store.base import Change, Edited, Finish, Store
from tests.factories import NOW, make_attempt, make_ended, make_schedule, make_task
from tests.store.driving import (
    ELSEWHERE,
    EVERYTHING,
    LANE,
    Notes,
    assert_counts_are_true,
    changed,
    counts_of,
    edit_all,
    end,
    fire,
    found_by,
    known,
    lease_all,
    lease_one,
    numbers_of,
    put_schedule,
)

LATER = Moment(NOW + HOUR)
TOLD = "http://app.test/told"


CANCEL = edits.Cancel(NOW)
REFUSED = edits.Patch(Changes(labels={str(n): "" for n in range(17)}))


async def callback_of(store: Store) -> Task:
    """Return the only task in the queue of callbacks."""
    [id] = await found_by(store, TaskFilter(queue=CALLBACKS_QUEUE))
    return await known(store, id)


class EditRules:
    """Rules for all stores about edits. Subclasses provide the ``store`` fixture."""

    async def test_every_field_can_be_edited(self, store: Store) -> None:
        """``edit``: edit a task as ``edited`` does; return it."""
        await store.add(make_task("a", labels={"was": "1", "stays": "2"}, body=b"before"))
        fields: dict[str, object] = {
            "url": ELSEWHERE,
            "method": "PUT",
            "headers": {"X": "é"},
            "body": b"after",
            "priority": 7,
            "run_at": LATER,
            "due_at": LATER,
            "expected": (201,),
            "timeout": 3.0,
            "labels": {"stays": "2", "new": "3"},
            "expires_at": Moment(LATER + 1),
            "on_success": TOLD,
            "on_dead": TOLD,
        }

        task = await store.edit("a", changed(**fields), now=NOW)

        assert task == make_task("a", **fields)
        assert await store.get("a") == task
        assert await store.next_due() == {make_task(url=ELSEWHERE).lane: LATER}
        assert await found_by(store, TaskFilter(labels=(("new", "3"), ("stays", "2")))) == ["a"]
        assert await found_by(store, TaskFilter(labels=(("was", "1"),))) == []
        await assert_counts_are_true(store, ["a"])

    async def test_unknown_task_is_not_edited(self, store: Store) -> None:
        """``edit``: None when there is none."""
        assert await store.edit("nobody", changed(priority=1), now=NOW) is None

    async def test_refused_edit_changes_nothing(self, store: Store) -> None:
        """``edit``: what ``edited`` raises is raised here, and nothing is changed."""
        await store.add(make_task("a"))

        results = await asyncio.gather(
            store.edit("a", changed(priority=1), now=NOW),
            store.edit("a", REFUSED, now=NOW),
            return_exceptions=True,
        )

        assert isinstance(results[1], InvalidTask)
        assert await store.get("a") == make_task("a", priority=1)

    async def test_edit_that_changes_nothing_is_not_reported(self, store: Store) -> None:
        """``News``: the changes of one commit."""
        await store.add(make_task("a"))
        notes = Notes()
        store.listen(notes)

        await store.edit("a", Patch(NO_CHANGES), now=NOW)

        assert notes.news == []

    async def test_manually_run_task_is_in_a_separate_lane(self, store: Store) -> None:
        """``Lane``: tasks with a manual run are in a separate lane."""
        forced = Lane(LANE.queue, LANE.origin, True)
        await store.add(make_task("a", run_at=LATER))
        await store.add(make_task("b"))
        notes = Notes()
        store.listen(notes)

        await store.edit("a", edits.Run(at=NOW), now=NOW)
        due = await store.next_due()
        [lease] = (await store.lease_due({forced: 5}, now=NOW)).leases
        await end(store, lease, RetryAt(LATER))

        assert due == {LANE: NOW, forced: NOW}
        assert lease.task.id == "a"
        assert notes.waits == [(forced, NOW), (LANE, LATER)]
        assert (await known(store, "a")).forced is False
        assert await store.next_due() == {LANE: NOW}

    async def test_path_is_a_lane_without_an_origin(self, store: Store) -> None:
        """``Lane``: ``origin`` is empty for tasks whose URL is a path."""
        await store.add(make_task("a", url="/run?n=1"))

        leases = await lease_all(store)

        assert leases["a"].task.lane == Lane("default", "")

    @pytest.mark.parametrize("state", [TaskState.DEAD, TaskState.SUCCEEDED])
    async def test_ended_task_is_requeued(self, store: Store, state: TaskState) -> None:
        """``edit``: edit a task as ``edited`` does."""
        await store.restore([(make_ended("a", state, attempt_count=3, attempt_total=3), [])])
        notes = Notes()
        store.listen(notes)

        await store.edit("a", edits.Requeue(at=LATER), now=NOW)

        assert await store.get("a") == make_task("a", run_at=LATER, round=2, attempt_total=3)
        assert notes.changes == [("a", Change.REQUEUED, TaskState.WAITING)]
        assert notes.waits == [(LANE, LATER)]
        assert list(await lease_all(store, now=LATER)) == ["a"]
        await assert_counts_are_true(store, ["a"])

    async def test_edit_in_a_wrong_state_is_refused(self, store: Store) -> None:
        """``edit``: what ``edited`` raises is raised here."""
        await store.add(make_task("a"))

        with pytest.raises(StateConflict) as caught:
            await store.edit("a", edits.Requeue(at=NOW), now=NOW)

        assert caught.value.state == "waiting"

    async def test_waiting_task_is_cancelled(self, store: Store) -> None:
        """``edit``: edit a task as ``edited`` does."""
        await store.add(make_task("a"))
        notes = Notes()
        store.listen(notes)

        await store.edit("a", CANCEL, now=NOW)

        expected = make_ended("a", TaskState.DEAD, reason=Reason.CANCELLED)
        assert await store.get("a") == expected
        assert notes.changes == [("a", Change.DIED, TaskState.DEAD)]
        assert await store.next_due() == {}
        await assert_counts_are_true(store, ["a"])

    async def test_running_task_is_marked_as_cancelled(self, store: Store) -> None:
        """``edited``: prevent retries of a running task."""
        await store.add(make_task("a"))
        lease = await lease_one(store)

        running = await store.edit("a", CANCEL, now=NOW)
        again = await store.edit("a", CANCEL, now=NOW)
        with pytest.raises(StateConflict):
            await store.edit("a", changed(priority=5), now=NOW)
        await end(store, lease, RetryAt(LATER))

        expected = make_task("a", state=TaskState.RUNNING, cancelled=True)
        assert (running, again) == (expected, expected)
        task = await known(store, "a")
        assert (task.state, task.reason, task.cancelled) == (
            TaskState.DEAD,
            Reason.CANCELLED,
            False,
        )
        await assert_counts_are_true(store, ["a"])

    @pytest.mark.parametrize("first", ["end", "cancel"])
    async def test_task_cancelled_as_its_attempt_ends_does_not_stay_running(
        self, store: Store, first: str
    ) -> None:
        """``edit`` and ``finish`` may share one commit, in either order."""
        await store.add(make_task("a"))
        lease = await lease_one(store)
        ending = end(store, lease, RetryAt(LATER))
        cancelling = store.edit("a", CANCEL, now=NOW)

        await asyncio.gather(*((ending, cancelling) if first == "end" else (cancelling, ending)))

        assert (await known(store, "a")).reason is Reason.CANCELLED
        await assert_counts_are_true(store, ["a"])

    @pytest.mark.parametrize("state", [None, TaskState.RUNNING, TaskState.DEAD])
    async def test_task_is_deleted_in_any_state(
        self, store: Store, state: TaskState | None
    ) -> None:
        """``edit``: a deleted task is returned as it was."""
        task = make_ended("a", state) if state is TaskState.DEAD else make_task("a")
        await store.restore([(msgspec.structs.replace(task, labels={"l": "v"}), [make_attempt()])])
        if state is TaskState.RUNNING:
            await lease_one(store)
        notes = Notes()
        store.listen(notes)

        found = await store.get("a")
        edited = await store.edit("a", edits.Delete(), now=NOW)

        assert edited == found
        assert await store.get("a") is None
        assert await store.attempts("a") == []
        assert await found_by(store, TaskFilter(labels=(("l", "v"),))) == []
        assert notes.changes == [("a", Change.DELETED, None)]
        assert await counts_of(store) == {}

    async def test_outcome_of_a_deleted_task_is_dropped(self, store: Store) -> None:
        """``edit``: if it is running, it is hidden at once, and its outcome is dropped."""
        await store.add(make_task("a"))
        lease = await lease_one(store)
        await store.edit("a", edits.Delete(), now=NOW)

        was_ours = await end(store, lease, Complete())

        assert was_ours is False
        assert await store.get("a") is None
        assert await counts_of(store) == {}

    async def test_tasks_of_a_bulk_edit_are_spread_by_their_place(self, store: Store) -> None:
        """``edit_slice``: the spread goes by the place among all numbers."""
        for id in "abc":
            await store.add(make_task(id))
        numbers = await numbers_of(store, EVERYTHING)

        edited = await edit_all(store, numbers, edits.Run(at=NOW, spread=3 * 3600.0))

        assert edited == (3, {})
        run_at = [(await known(store, id)).run_at for id in "cba"]
        assert run_at == [NOW, LATER, Moment(LATER + HOUR)]

    async def test_slice_begins_at_its_start(self, store: Store) -> None:
        """``edit_slice``: the tasks from the place ``start`` on."""
        for id in "abc":
            await store.add(make_task(id))
        numbers = await numbers_of(store, EVERYTHING)

        edited = await store.edit_slice(numbers, CANCEL, start=2, filter=EVERYTHING, now=NOW)

        assert edited == Edited(1, {}, 3)
        dead = TaskFilter(states=frozenset({TaskState.DEAD}))
        assert await found_by(store, dead) == ["a"]

    async def test_dry_run_counts_and_changes_nothing(self, store: Store) -> None:
        """``edit_slice``: a dry run changes nothing, and counts the same."""
        await store.add(make_task("waits"))
        await store.restore([(make_ended("dead", TaskState.DEAD), [])])
        numbers = await numbers_of(store, EVERYTHING)
        notes = Notes()
        store.listen(notes)

        edited = await store.edit_slice(
            numbers, CANCEL, start=0, filter=EVERYTHING, now=NOW, dry_run=True
        )

        assert edited == Edited(1, {"dead": 1}, 2)
        assert notes.news == []
        assert await store.get("waits") == make_task("waits")

    async def test_tasks_of_several_commits_are_all_edited(self, store: Store) -> None:
        """``edit_slice``: as many as one commit should take, at least one."""
        ids = [f"{n:03}" for n in range(330)]
        await asyncio.gather(*(store.add(make_task(id)) for id in ids))
        numbers = await numbers_of(store, EVERYTHING)

        edited = await edit_all(store, numbers, CANCEL)

        assert edited == (330, {})
        assert await counts_of(store) == {"default": QueueCounts(dead=330)}

    async def test_skipped_tasks_are_counted_by_reason(self, store: Store) -> None:
        """``edit_slice``: skipped tasks are counted by reason."""
        for id in ("waits", "gone", "moved", "runs"):
            await store.add(make_task(id, queue="mail"))
        await store.restore([(make_ended("dead", TaskState.DEAD, queue="mail"), [])])
        mail = TaskFilter(queue="mail")
        numbers = await numbers_of(store, mail)
        await store.edit("gone", edits.Delete(), now=NOW)
        await store.edit("moved", changed(queue="other"), now=NOW)

        edited = await edit_all(store, numbers, CANCEL, filter=mail)
        again = await edit_all(store, numbers, REFUSED, filter=mail)

        assert edited == (2, {"gone": 1, "changed": 1, "dead": 1})
        reason = "labels: there would be 17; at most 16 are allowed"
        assert again == (0, {"gone": 1, "changed": 1, reason: 3})
        await assert_counts_are_true(store, ["waits", "moved", "runs", "dead"])

    async def test_running_and_waiting_tasks_are_distinguished(self, store: Store) -> None:
        """``edit_slice``: if the filter still selects them."""
        waiting = TaskFilter(states=frozenset({TaskState.WAITING}))
        await store.add(make_task("runs"))
        await store.add(make_task("waits", run_at=LATER))
        numbers = await numbers_of(store, waiting)
        lease = await lease_one(store)

        edited = await edit_all(store, numbers, edits.Delete(), filter=waiting)

        assert edited == (1, {"changed": 1})
        assert await end(store, lease, Complete()) is True
        await assert_counts_are_true(store, ["runs", "waits"])

    async def test_end_of_a_task_makes_its_callback(self, store: Store) -> None:
        """``finish``: a task that ends creates its callback in the same commit."""
        await store.add(make_task("a", on_success=TOLD, labels={"l": "v"}))
        notes = Notes()
        store.listen(notes)

        await end(store, await lease_one(store), Complete(), now=LATER)

        callback = await callback_of(store)
        account = msgspec.json.decode(callback.body)
        assert (callback.url, callback.run_at, callback.on_dead) == (TOLD, LATER, "")
        assert (account["id"], account["state"], account["labels"]) == (
            "a",
            "succeeded",
            {"l": "v"},
        )
        assert account["last_attempt"]["status"] == 200
        assert [change for _, change, _ in notes.changes] == [
            Change.STARTED,
            Change.SUCCEEDED,
            Change.PUSHED,
        ]
        await assert_counts_are_true(store, ["a", callback.id])

    @pytest.mark.parametrize("how", ["finish", "expire", "cancel", "supersede"])
    async def test_every_kind_of_death_makes_a_callback(self, store: Store, how: str) -> None:
        """``finish``: in every method that ends one."""
        await put_schedule(store, make_schedule("s"))
        task = make_task(
            "a", on_dead=TOLD, on_success="", schedule="s", expires_at=NOW, run_at=NOW
        )
        await store.add(task)
        await end(store, await lease_one(store), RetryAt(NOW))

        if how == "finish":
            refused = Finish(await lease_one(store), Bury(Reason.REFUSED))
            await store.finish([refused], now=NOW)
        elif how == "expire":
            await store.expire(now=NOW, limit=5)
        elif how == "cancel":
            await store.edit("a", CANCEL, now=NOW)
        else:
            await fire(store, make_schedule("s"), "next")

        account = msgspec.json.decode((await callback_of(store)).body)
        reasons = {
            "finish": "refused",
            "expire": "expired",
            "cancel": "cancelled",
            "supersede": "superseded",
        }
        assert (account["id"], account["reason"]) == ("a", reasons[how])
        assert account["last_attempt"]["error"] == "went wrong"

    async def test_callback_of_the_queue_is_the_default(self, store: Store) -> None:
        """``finish``: a task that ends creates its callback."""
        mail = Queue(name="mail", overrides=QueueOverrides(on_success=TOLD), configured=True)
        await store.edit_queue("mail", lambda _: mail)
        await store.add(make_task("a", queue="mail"))
        await store.add(make_task("b", queue="mail", on_success=""))
        leases = await lease_all(store)

        await asyncio.gather(*(end(store, lease, Complete()) for lease in leases.values()))

        account = msgspec.json.decode((await callback_of(store)).body)
        assert account["id"] == "a"

    async def test_task_to_be_retried_makes_no_callback(self, store: Store) -> None:
        """``finish``: a task that ends creates its callback."""
        await store.add(make_task("a", on_success=TOLD, on_dead=TOLD))

        await end(store, await lease_one(store), RetryAt(LATER))

        assert await found_by(store, TaskFilter(queue=CALLBACKS_QUEUE)) == []
