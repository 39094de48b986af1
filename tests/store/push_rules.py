"""The rules of ``Store`` about pushes: keys, one task at a time, all or none."""

from __future__ import annotations

import asyncio

import pytest

from poussetaches.core.edits import Cancel, Delete
from poussetaches.core.errors import KeyConflict
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import HOUR, SECOND, Moment
from poussetaches.core.queue import Lane, Queue, Retention
from poussetaches.core.responses import QueueCounts
from poussetaches.core.task import (
    BodyKind,
    Complete,
    RetryAt,
    Task,
    TaskState,
)
from poussetaches.store.base import Change, Push, PushResult, Store
from tests.factories import NOW, make_task
from tests.store.driving import (
    LANE,
    Notes,
    assert_counts_are_true,
    counts_of,
    edit_all,
    end,
    found_by,
    known,
    lease_one,
)

LATER = Moment(NOW + HOUR)
DAY = 86_400.0  # seconds
MAIL = Lane("mail", LANE.origin)


async def push(
    store: Store, *tasks: Task, now: Moment = NOW, **options: object
) -> list[PushResult]:
    """Push tasks together."""
    pushes = [Push(task=task, **options) for task in tasks]  # type: ignore[arg-type] # of the test
    return await store.push(pushes, now=now)


class PushRules:
    """Rules for all stores about pushes. Subclasses provide the ``store`` fixture."""

    async def test_pushed_tasks_are_kept_in_order(self, store: Store) -> None:
        """``push``: add new tasks."""
        tasks = [make_task(id, queue=f"q-{id}", labels={"n": id}) for id in "cab"]

        pushed = await push(store, *tasks)

        assert pushed == [PushResult(task.id, task, False) for task in tasks]
        assert await found_by(store, TaskFilter()) == ["b", "a", "c"]
        assert [await store.get(task.id) for task in tasks] == tasks
        await assert_counts_are_true(store, list("abc"))

    async def test_empty_push_stores_nothing(self, store: Store) -> None:
        """``push``: add new tasks."""
        assert await push(store) == []
        assert await counts_of(store) == {}

    async def test_concurrent_pushes_are_each_answered(self, store: Store) -> None:
        """Many calls may share one commit."""
        answers = await asyncio.gather(
            *(
                push(store, make_task(f"{n:02}", key=f"k-{n // 2}" if n % 3 else None))
                for n in range(20)
            )
        )

        by_place = [pushed.task_id for [pushed] in answers]
        assert [id for n, id in enumerate(by_place) if n % 3 == 0] == [
            f"{n:02}" for n in range(0, 20, 3)
        ]
        assert by_place[5] == by_place[4] == "04"

    async def test_repeated_key_returns_the_first_task(self, store: Store) -> None:
        """``push``: a repeated push returns the existing task."""
        first = make_task("first", key="k")
        await push(store, first)

        [pushed] = await push(store, make_task("again", key="k"))

        assert pushed == PushResult("first", first, True)
        assert await store.get("again") is None
        await assert_counts_are_true(store, ["first"])

    async def test_key_returns_its_task_in_any_state(self, store: Store) -> None:
        """``push``: it returns that task in any state."""
        await push(store, make_task("first", key="k"))
        lease = await lease_one(store)
        [while_running] = await push(store, make_task("again", key="k"))
        await end(store, lease, Complete())

        [pushed] = await push(store, make_task("again", key="k"))

        assert while_running.task == make_task("first", key="k", state=TaskState.RUNNING)
        assert (pushed.task_id, pushed.existing) == ("first", True)
        assert pushed.task is not None
        assert pushed.task.state is TaskState.SUCCEEDED

    async def test_key_outlives_a_task_that_was_pruned(self, store: Store) -> None:
        """``PushResult``: ``task`` is None if it was pruned meanwhile."""
        await push(store, make_task("first", key="k"))
        await end(store, await lease_one(store), Complete())
        await store.prune(
            "default", TaskState.SUCCEEDED, Retention(count=0, age=0.0), now=NOW, limit=10
        )

        [pushed] = await push(store, make_task("again", key="k"))

        assert pushed == PushResult("first", None, True)

    async def test_key_is_free_once_its_task_was_deleted(self, store: Store) -> None:
        """``push``: unless the task was deleted."""
        waiting = [
            make_task(name, key=key, run_at=LATER) for name, key in (("one", "a"), ("two", "b"))
        ]
        await push(store, *waiting, make_task("running", key="c"))
        lease = await lease_one(store)
        await store.edit("one", Delete(), now=NOW)
        await store.edit("running", Delete(), now=NOW)
        found = await store.select(TaskFilter(), after=None, limit=10)
        await edit_all(store, found.numbers, Delete())

        pushed = [
            (await push(store, make_task(f"new {key}", key=key, body=b"corrected")))[0]
            for key in "abc"
        ]

        assert lease.task.id == "running"
        assert [(one.task_id, one.existing) for one in pushed] == [
            ("new a", False),
            ("new b", False),
            ("new c", False),
        ]

    async def test_key_is_free_once_its_queue_was_deleted(self, store: Store) -> None:
        """``push``: unless its queue was deleted."""
        await push(store, make_task("first", key="k", queue="mail"))
        await end(store, (await store.lease_due({MAIL: 1}, now=NOW)).leases[0], Complete())
        await store.prune(
            "mail", TaskState.SUCCEEDED, Retention(count=0, age=0.0), now=NOW, limit=10
        )
        await store.edit_queue("mail", lambda queue: None)

        [pushed] = await push(store, make_task("again", key="k", queue="mail"))

        assert (pushed.task_id, pushed.existing) == ("again", False)

    async def test_key_stays_when_its_task_was_cancelled_or_expired(self, store: Store) -> None:
        """``push``: it returns that task in any state."""
        await push(store, make_task("cancelled", key="a", run_at=LATER))
        await push(store, make_task("expired", key="b", run_at=LATER, expires_at=NOW))
        await store.edit("cancelled", Cancel(NOW), now=NOW)
        await store.expire(now=NOW, limit=10)

        pushed = [(await push(store, make_task("new", key=key)))[0] for key in "ab"]

        assert [(one.task_id, one.existing) for one in pushed] == [
            ("cancelled", True),
            ("expired", True),
        ]

    async def test_key_is_valid_for_its_ttl(self, store: Store) -> None:
        """``push``: less than its ``key_ttl`` ago."""
        await push(store, make_task("first", key="k"), key_ttl=10.0)

        [before] = await push(store, make_task("b", key="k"), now=Moment(NOW + 10 * SECOND - 1))
        [then] = await push(
            store, make_task("second", key="k", body=b"other"), now=Moment(NOW + 10 * SECOND)
        )
        [after] = await push(
            store, make_task("c", key="k", body=b"other"), now=Moment(NOW + 11 * SECOND)
        )

        assert [pushed.task_id for pushed in (before, then, after)] == [
            "first",
            "second",
            "second",
        ]
        assert [pushed.existing for pushed in (before, then, after)] == [True, False, True]

    async def test_keys_belong_to_queues(self, store: Store) -> None:
        """``push``: a push repeats another of its queue."""
        pushed = await push(store, make_task("a", key="k"), make_task("b", key="k", queue="mail"))

        assert [one.task_id for one in pushed] == ["a", "b"]

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"body": b"other"}, id="body"),
            pytest.param({"method": "PUT"}, id="method"),
            pytest.param({"url": "http://app.test/other"}, id="url"),
        ],
    )
    async def test_key_of_a_different_push_is_refused(
        self, store: Store, other: dict[str, object]
    ) -> None:
        """``push``: the key was pushed with another URL, method or body; with the push's place."""
        await push(store, make_task("first", key="k"))

        with pytest.raises(KeyConflict, match="'k' was used for a push with another") as caught:
            await push(store, make_task("a"), make_task("b", key="k", **other))

        assert caught.value.place == 1
        assert await store.get("a") is None
        await assert_counts_are_true(store, ["first"])

    async def test_json_bodies_under_a_key_are_compared_as_values(self, store: Store) -> None:
        """``push``: JSON bodies are compared as values."""
        first = make_task("first", key="k", body=b'{"a":1,"b":2.0}', body_kind=BodyKind.JSON)
        same = make_task("same", key="k", body=b'{"b": 2.0, "a": 1}', body_kind=BodyKind.JSON)
        other = make_task("other", key="k", body=b'{"a":1,"b":2}', body_kind=BodyKind.JSON)
        text = make_task("text", key="k", body=b'{"b": 2.0, "a": 1}', body_kind=BodyKind.TEXT)

        pushed = await push(store, first, same)

        assert [one.task_id for one in pushed] == ["first", "first"]
        assert [one.task_id for one in await push(store, same)] == ["first"]
        for task in (other, text):
            with pytest.raises(KeyConflict):
                await push(store, task)

    async def test_refused_push_affects_no_other(self, store: Store) -> None:
        """Each method is atomic, and many calls may share one commit."""
        await push(store, make_task("first", key="k"))

        results = await asyncio.gather(
            push(store, make_task("a", key="a")),
            push(store, make_task("b", key="b"), make_task("c", key="k", body=b"other")),
            push(store, make_task("d")),
            return_exceptions=True,
        )

        assert [isinstance(result, KeyConflict) for result in results] == [False, True, False]
        assert sorted(await found_by(store, TaskFilter())) == ["a", "d", "first"]
        await assert_counts_are_true(store, ["first", "a", "d"])

    async def test_pushes_of_one_call_see_each_other(self, store: Store) -> None:
        """``push``: a repeated push returns the existing task."""
        pushed = await push(store, make_task("a", key="k"), make_task("b", key="k"))

        with pytest.raises(KeyConflict) as caught:
            await push(store, make_task("c", key="n"), make_task("d", key="n", body=b"other"))

        assert [one.task_id for one in pushed] == ["a", "a"]
        assert caught.value.place == 1
        assert await store.get("c") is None

    async def test_waiting_task_with_the_same_value_stays(self, store: Store) -> None:
        """``push``: a push with the ``unique`` of a waiting task returns that task."""
        first = make_task("first", unique="u", body=b"first")
        await push(store, first)

        [again] = await push(store, make_task("again", unique="u", body=b"again"))
        [other] = await push(store, make_task("other", unique="u", queue="mail"))

        assert again == PushResult("first", first, True)
        assert other.existing is False
        assert await store.get("first") == first

    async def test_waiting_task_with_the_same_value_is_replaced(self, store: Store) -> None:
        """``push``: the task gets the body and ``run_at`` of the push if it replaces."""
        first = make_task("first", unique="u", body=b"first", attempt_count=2, attempt_total=2)
        await store.add(first)
        notes = Notes()
        store.listen(notes)
        new = make_task(
            "new", unique="u", body=b'"new"', body_kind=BodyKind.JSON, run_at=LATER, priority=9
        )

        [pushed] = await push(store, new, replaces=True)

        expected = make_task(
            "first",
            unique="u",
            body=b'"new"',
            body_kind=BodyKind.JSON,
            run_at=LATER,
            attempt_count=2,
            attempt_total=2,
        )
        assert pushed == PushResult("first", expected, True)
        assert await store.get("first") == expected
        assert await store.next_due() == {LANE: LATER}
        assert notes.changes == [("first", Change.EDITED, TaskState.WAITING)]
        assert notes.waits == [(LANE, LATER)]
        await assert_counts_are_true(store, ["first", "new"])

    async def test_running_task_is_not_a_duplicate(self, store: Store) -> None:
        """``push``: running and ended tasks do not count."""
        await push(store, make_task("first", unique="u"))
        lease = await lease_one(store)

        [while_running] = await push(store, make_task("second", unique="u"))
        await end(store, await lease_one(store), Complete())
        [after_its_end] = await push(store, make_task("third", unique="u"))

        assert [one.existing for one in (while_running, after_its_end)] == [False, False]
        assert await end(store, lease, RetryAt(NOW)) is True

    async def test_only_the_first_unique_push_of_a_call_is_added(self, store: Store) -> None:
        """``push``: a repeated push returns the existing task."""
        pushed = await push(
            store, *(make_task(id, unique="u", body=id.encode()) for id in "abc"), replaces=True
        )

        assert [(one.task_id, one.existing) for one in pushed] == [
            ("a", False),
            ("a", True),
            ("a", True),
        ]
        assert (await known(store, "a")).body == b"c"

    async def test_key_of_a_push_that_found_a_waiting_task_returns_it(self, store: Store) -> None:
        """``push``: a repeated push returns the existing task."""
        await push(store, make_task("first", unique="u"))
        await push(store, make_task("b", unique="u", key="k"))
        await end(store, await lease_one(store), Complete())

        [again] = await push(store, make_task("c", unique="u", key="k"))

        assert (again.task_id, again.existing) == ("first", True)

    async def test_pushes_are_reported_once_per_commit(self, store: Store) -> None:
        """``News``: once for each commit, with the new queues."""
        notes = Notes()
        store.listen(notes)

        await push(store, make_task("a"), make_task("b", queue="mail", run_at=LATER))

        [news] = notes.news
        mail = make_task(queue="mail").lane
        assert news.waits == {LANE: NOW, mail: LATER}
        assert notes.changes == [
            ("a", Change.PUSHED, TaskState.WAITING),
            ("b", Change.PUSHED, TaskState.WAITING),
        ]
        assert news.queues == {"mail": Queue(name="mail")}

    async def test_push_that_found_its_task_is_not_reported(self, store: Store) -> None:
        """``News``: the changes of one commit."""
        await push(store, make_task("a", unique="u"))
        notes = Notes()
        store.listen(notes)

        await push(store, make_task("b", unique="u"))

        assert notes.news == []

    async def test_counts_are_those_of_existing_tasks(self, store: Store) -> None:
        """``counts``: return every queue with its counts."""
        await push(store, make_task("a", unique="u", key="k"), make_task("b", unique="u"))
        await push(store, make_task("c", key="k", unique="v"))

        assert await counts_of(store) == {"default": QueueCounts(waiting=1)}
