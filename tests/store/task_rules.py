"""The rules of ``Store`` about tasks: keeping, listing, leasing and ending their attempts."""

from __future__ import annotations

import asyncio

import pytest

from poussetaches.core.moment import DAY, HOUR, SECOND, Moment
from poussetaches.core.progress_report import Progress
from poussetaches.core.queue import Lane
from poussetaches.core.responses import QueueCounts
from poussetaches.core.task import (
    Bury,
    Complete,
    DeliveryForm,
    Move,
    Reason,
    RetryAt,
    TaskState,
)
from poussetaches.store.base import EARLIER_RESPONSE, MAX_ATTEMPTS_KEPT, Finish, Store
from tests.factories import NOW, make_attempt, make_ended, make_task
from tests.store.driving import (
    ELSEWHERE,
    LANE,
    GiveBack,
    Notes,
    assert_counts_are_true,
    counts_of,
    end,
    finish_of,
    ids_of,
    known,
    lease_all,
    lease_one,
    listed,
)

LATER = Moment(NOW + HOUR)
UNKNOWN = Lane("nobody", "http://nobody.test:80")

EVERYTHING: dict[str, object] = {
    "url": "https://u:p@app.test/a?b=c#d",
    "created_at": Moment(NOW - 3),
    "run_at": Moment(NOW - 2),
    "due_at": Moment(NOW - 1),
    "queue": "mail",
    "method": "PUT",
    "headers": {"X-One": "1", "X-É": "naïve \U0001f40c"},
    "body": bytes(range(256)),
    "delivery": DeliveryForm.ENVELOPE,
    "priority": -100,
    "expected": (200, "3xx"),
    "timeout": 0.5,
    "expires_at": Moment(NOW + DAY),
    "round": 3,
    "attempt_count": 4,
    "attempt_total": 9,
    "last_status": 503,
    "last_error": "déjà vu",
}


class TaskRules:
    """Rules for all stores about tasks. Subclasses provide the ``store`` fixture."""

    async def test_added_task_is_stored_completely(self, store: Store) -> None:
        """``add``: store a new task."""
        plain, full = make_task("plain"), make_task("full", **EVERYTHING)

        await store.add(plain)
        await store.add(full)

        assert await store.get("plain") == plain
        assert await store.get("full") == full

    async def test_tasks_added_concurrently_are_all_stored(self, store: Store) -> None:
        """Many calls may share one commit."""
        ids = [f"{n:03}" for n in range(200)]

        await asyncio.gather(*(store.add(make_task(id)) for id in ids))

        assert list(await lease_all(store)) == ids
        await assert_counts_are_true(store, ids)

    async def test_unknown_id_has_no_task_and_no_attempts(self, store: Store) -> None:
        """``get``: None if there is no such task."""
        assert await store.get("nobody") is None
        assert await store.attempts("nobody") == []

    async def test_leased_task_is_running(self, store: Store) -> None:
        """``get``: a leased task is ``running``."""
        await store.add(make_task("a"))

        await lease_one(store)

        assert await store.get("a") == make_task("a", state=TaskState.RUNNING)
        assert await counts_of(store) == {"default": QueueCounts(running=1)}

    async def test_restored_tasks_are_stored_unchanged(self, store: Store) -> None:
        """``restore``: store tasks as they are; return the number of new ones."""
        attempts = [make_attempt(n) for n in (1, 2)]
        waiting = make_task("w", attempt_count=2, attempt_total=2)
        dead = make_ended("d", TaskState.DEAD, queue="mail", attempt_count=12, attempt_total=12)
        succeeded = make_ended("s", TaskState.SUCCEEDED)

        count = await store.restore([(waiting, attempts), (dead, attempts[:1]), (succeeded, [])])

        assert count == 3
        assert [await store.get(id) for id in "wds"] == [waiting, dead, succeeded]
        assert await store.attempts("w") == attempts
        assert await store.attempts("d") == attempts[:1]
        await assert_counts_are_true(store, ["w", "d", "s"])

    async def test_existing_task_is_not_restored(self, store: Store) -> None:
        """``restore``: except tasks whose id exists."""
        first = make_task("a", body=b"first")
        await store.add(first)
        second = make_task("a", body=b"second")
        other = make_task("b", body=b"other")

        count = await store.restore(
            [(second, [make_attempt()]), (other, []), (make_task("b", body=b"again"), [])]
        )

        assert count == 1
        assert await store.get("a") == first
        assert await store.attempts("a") == []
        assert await store.get("b") == other
        await assert_counts_are_true(store, ["a", "b"])

    async def test_restored_task_continues_its_attempt_numbers(self, store: Store) -> None:
        """``restore``: store tasks with their attempts as they are."""
        task = make_task("a", attempt_count=4, attempt_total=4)
        await store.restore([(task, [make_attempt(4)])])

        await end(store, await lease_one(store), RetryAt(NOW))

        assert [attempt.number for attempt in await store.attempts("a")] == [4, 5]

    async def test_attempts_come_oldest_first(self, store: Store) -> None:
        """``attempts``: return the stored attempts of a task, oldest first."""
        await store.add(make_task("a"))
        full = {
            "succeeded": False,
            "status": None,
            "error": "connection réset",
            "cause": "a cause of a newer version",
            "response_body": b"\xff\x00",
            "response_truncated": True,
            "key_sent": True,
            "duration": 1.5,
            "progress": Progress(done=1, total=2.5, note="préparé", at=NOW),
        }
        for move in (RetryAt(NOW), RetryAt(NOW), Complete()):
            await store.finish([finish_of(await lease_one(store), move, **full)], now=NOW)

        attempts = await store.attempts("a")

        assert attempts == [make_attempt(number, **full) for number in (1, 2, 3)]

    async def test_attempt_stores_whether_a_key_was_sent(self, store: Store) -> None:
        """``attempts``: return the stored attempts of a task, oldest first."""
        await store.add(make_task("a"))
        for key_sent in (True, False, None):
            finish = finish_of(await lease_one(store), RetryAt(NOW), key_sent=key_sent)
            await store.finish([finish], now=NOW)

        attempts = await store.attempts("a")

        assert [attempt.key_sent for attempt in attempts] == [True, False, None]

    async def test_last_attempt_has_its_complete_response(self, store: Store) -> None:
        """``finish``: the last attempt keeps its whole response, the one before it is cut."""
        long, short = b"x" * 65_536, b"y" * EARLIER_RESPONSE
        await store.add(make_task("a"))
        for body in (long, short, long, long):
            finish = finish_of(await lease_one(store), RetryAt(NOW), response_body=body)
            await store.finish([finish], now=NOW)

        attempts = await store.attempts("a")

        assert [(len(kept.response_body), kept.response_truncated) for kept in attempts] == [
            (EARLIER_RESPONSE, True),
            (EARLIER_RESPONSE, False),
            (EARLIER_RESPONSE, True),
            (65_536, False),
        ]

    async def test_first_and_last_attempts_are_stored(self, store: Store) -> None:
        """``MAX_ATTEMPTS_KEPT``: the first and the last fifty of one task."""
        half = MAX_ATTEMPTS_KEPT // 2
        await store.add(make_task("a"))
        for _ in range(MAX_ATTEMPTS_KEPT + 20):
            await end(store, await lease_one(store), RetryAt(NOW))

        numbers = [attempt.number for attempt in await store.attempts("a")]

        assert numbers == [*range(1, half + 1), *range(half + 21, MAX_ATTEMPTS_KEPT + 21)]
        assert (await known(store, "a")).attempt_total == MAX_ATTEMPTS_KEPT + 20

    @pytest.mark.parametrize("limit", [1, 3, 8, 24, 25])
    @pytest.mark.parametrize("state", [TaskState.WAITING, TaskState.SUCCEEDED, TaskState.DEAD])
    async def test_pages_have_every_task_once(
        self, store: Store, state: TaskState, limit: int
    ) -> None:
        """``list_enveloped``: earliest ``run_at`` first, then by id; ``after`` continues."""
        tasks = [
            make_task(f"{n:02}", run_at=Moment(NOW + n % 3), delivery=DeliveryForm.ENVELOPE)
            if state is TaskState.WAITING
            else make_ended(
                f"{n:02}", state, run_at=Moment(NOW + n % 3), delivery=DeliveryForm.ENVELOPE
            )
            for n in reversed(range(24))
        ]
        await store.restore([(task, []) for task in tasks])
        expected = sorted(tasks, key=lambda task: (task.run_at, task.id))

        found = await listed(store, state, limit=limit)

        assert ids_of(found) == [task.id for task in expected]

    async def test_page_has_no_more_than_its_limit(self, store: Store) -> None:
        """``list_enveloped``: ``after`` is None at the end."""
        for id in "abc":
            await store.add(make_task(id, delivery=DeliveryForm.ENVELOPE))

        page = await store.list_enveloped(TaskState.WAITING, after=None, limit=2)
        rest = await store.list_enveloped(TaskState.WAITING, after=page.after, limit=2)

        assert (ids_of(page.tasks), page.after) == (["a", "b"], (NOW, "b"))
        assert (ids_of(rest.tasks), rest.after) == (["c"], None)

    async def test_page_of_large_tasks_is_short(self, store: Store) -> None:
        """``list_enveloped``: a page of large tasks may end before the limit."""
        body = b"x" * 1_000_000
        for number in range(5):
            run_at = Moment(NOW + number)
            await store.add(
                make_task(f"{number}", delivery=DeliveryForm.ENVELOPE, body=body, run_at=run_at)
            )

        page = await store.list_enveloped(TaskState.WAITING, after=None, limit=5)

        assert len(page.tasks) < 5
        assert [summary.task.id for summary in await listed(store, TaskState.WAITING)] == [
            str(number) for number in range(5)
        ]

    async def test_only_enveloped_tasks_of_the_state_are_listed(self, store: Store) -> None:
        """``list_enveloped``: return tasks pushed in the original's envelope."""
        await store.restore(
            [
                (make_task("waits", delivery=DeliveryForm.ENVELOPE), []),
                (make_task("ours"), []),
                (make_ended("done", TaskState.SUCCEEDED, delivery=DeliveryForm.ENVELOPE), []),
                (make_ended("dead", TaskState.DEAD, delivery=DeliveryForm.ENVELOPE), []),
                (make_ended("dead ours", TaskState.DEAD), []),
            ]
        )

        assert ids_of(await listed(store, TaskState.WAITING)) == ["waits"]
        assert ids_of(await listed(store, TaskState.SUCCEEDED)) == ["done"]
        assert ids_of(await listed(store, TaskState.DEAD)) == ["dead"]

    async def test_waiting_includes_running(self, store: Store) -> None:
        """``list_enveloped``: waiting includes running."""
        await store.add(make_task("a", delivery=DeliveryForm.ENVELOPE))
        await lease_one(store)

        [found] = await listed(store, TaskState.WAITING)

        assert found.task == make_task(
            "a", delivery=DeliveryForm.ENVELOPE, state=TaskState.RUNNING
        )

    async def test_runs_of_schedules_are_listed_once_they_have_ended(self, store: Store) -> None:
        """``list_enveloped``: runs of schedules are not among the waiting tasks."""
        run = {"delivery": DeliveryForm.ENVELOPE, "schedule": "nightly"}
        await store.add(make_task("waits", run_at=LATER, **run))
        await store.add(make_task("runs", **run))
        await store.restore([(make_ended("dead", TaskState.DEAD, **run), [])])
        await lease_one(store)

        assert ids_of(await listed(store, TaskState.WAITING)) == []
        assert ids_of(await listed(store, TaskState.DEAD)) == ["dead"]

    async def test_listed_task_comes_with_its_last_attempts(self, store: Store) -> None:
        """``TaskSummary``: a task with its last attempt and its last failed attempt."""
        for id in "abc":
            await store.add(make_task(id, delivery=DeliveryForm.ENVELOPE))
        leases = await lease_all(store)
        await end(store, leases["a"], RetryAt(NOW))
        await end(store, leases["b"], RetryAt(NOW))
        await end(store, (await lease_all(store))["a"], Complete())

        [done] = await listed(store, TaskState.SUCCEEDED)
        failing, fresh = await listed(store, TaskState.WAITING)

        succeeded = make_attempt(2, succeeded=True, status=200)
        assert (done.last_attempt, done.last_failure) == (succeeded, make_attempt(1))
        assert (failing.last_attempt, failing.last_failure) == (make_attempt(1), make_attempt(1))
        assert (fresh.last_attempt, fresh.last_failure) == (None, None)

    async def test_due_tasks_come_in_order(self, store: Store) -> None:
        """``lease_due``: highest priority first, then earliest ``run_at``, then added first."""
        for id, priority, seconds_ago in [
            ("low, early", -5, 60),
            ("normal, second", 0, 10),
            ("normal, third", 0, 10),
            ("high, late", 7, 0),
            ("normal, first", 0, 20),
            ("high, early", 7, 1),
        ]:
            run_at = Moment(NOW - seconds_ago * SECOND)
            await store.add(make_task(id, priority=priority, run_at=run_at))

        leased = await store.lease_due({LANE: 6}, now=NOW)

        assert [lease.task.id for lease in leased.leases] == [
            "high, early",
            "high, late",
            "normal, first",
            "normal, second",
            "normal, third",
            "low, early",
        ]

    async def test_lease_has_the_complete_task(self, store: Store) -> None:
        """``lease_due``: a lease has the complete task."""
        task = make_task("full", **EVERYTHING)
        await store.add(task)

        lease = await lease_one(store)

        assert lease.task == task

    async def test_task_is_never_leased_early(self, store: Store) -> None:
        """A task is due when it is waiting and ``run_at <= now``."""
        await store.add(make_task("a", run_at=LATER))

        early = await store.lease_due({LANE: 1}, now=Moment(LATER - 1))
        due = await store.lease_due({LANE: 1}, now=LATER)

        assert (early.leases, early.next_due) == ([], {LANE: LATER})
        assert [lease.task.id for lease in due.leases] == ["a"]

    async def test_no_task_is_leased_twice_at_once(self, store: Store) -> None:
        """No task is ever leased twice at once."""
        await asyncio.gather(*(store.add(make_task(f"{n:02}")) for n in range(50)))

        many = await asyncio.gather(*(store.lease_due({LANE: 7}, now=NOW) for _ in range(10)))

        leases = [lease for leased in many for lease in leased.leases]
        assert sorted(lease.task.id for lease in leases) == [f"{n:02}" for n in range(50)]
        assert len({lease.token for lease in leases}) == 50

    async def test_ended_task_is_not_leased(self, store: Store) -> None:
        """A task is due when it is waiting."""
        await store.restore(
            [
                (make_ended("dead", TaskState.DEAD), []),
                (make_ended("done", TaskState.SUCCEEDED), []),
            ]
        )

        assert await lease_all(store) == {}
        assert await store.next_due() == {}

    async def test_each_lane_has_its_own_limit(self, store: Store) -> None:
        """``lease_due``: up to the given number of due tasks of each lane."""
        some, half, none = LANE, make_task(queue="mail").lane, make_task(url=ELSEWHERE).lane
        for n in range(3):
            await store.add(make_task(f"some-{n}"))
            await store.add(make_task(f"half-{n}", queue="mail"))
            await store.add(make_task(f"none-{n}", url=ELSEWHERE))

        leased = await store.lease_due({some: 2, half: 5, none: 0}, now=NOW)

        ids = [lease.task.id for lease in leased.leases]
        assert ids == ["some-0", "some-1", "half-0", "half-1", "half-2"]
        assert leased.next_due == {some: NOW, half: None, none: NOW}

    async def test_only_requested_lanes_are_leased(self, store: Store) -> None:
        """``lease_due``: leases tasks of each given lane."""
        await store.add(make_task("a", queue="mail", priority=100))
        await store.add(make_task("b"))

        leased = await store.lease_due({LANE: 10}, now=NOW)

        assert [lease.task.id for lease in leased.leases] == ["b"]
        assert list(leased.next_due) == [LANE]

    async def test_unknown_lane_has_no_due_task(self, store: Store) -> None:
        """``next_due`` is None if there is none."""
        leased = await store.lease_due({UNKNOWN: 5}, now=NOW)

        assert (leased.leases, leased.next_due) == ([], {UNKNOWN: None})

    async def test_next_due_ignores_leased_tasks(self, store: Store) -> None:
        """``next_due``: when the lane's next task that is not leased is due."""
        moments = [Moment(NOW - 3), Moment(NOW - 2), Moment(NOW - 1), LATER]
        for n, run_at in enumerate(moments):
            await store.add(make_task(str(n), run_at=run_at))

        seen = [(await store.lease_due({LANE: 1}, now=NOW)).next_due[LANE] for _ in range(4)]

        assert seen == [moments[1], moments[2], LATER, LATER]

    async def test_delayed_task_of_a_higher_priority_hides_nothing(self, store: Store) -> None:
        """A task is due when ``run_at <= now``; priority counts only among due tasks."""
        for n in range(100):
            await store.add(make_task(f"delayed-{n}", priority=100 - n, run_at=LATER))
        await store.add(make_task("due", priority=-100))

        leased = await store.lease_due({LANE: 3}, now=NOW)

        assert [lease.task.id for lease in leased.leases] == ["due"]
        assert leased.next_due == {LANE: LATER}

    async def test_next_due_is_the_earliest_of_all_priorities(self, store: Store) -> None:
        """``next_due``: when the lane's next task that is not leased is due."""
        for priority in range(-100, 101, 10):
            run_at = Moment(LATER + abs(priority - 30))
            await store.add(make_task(str(priority), priority=priority, run_at=run_at))

        leased = await store.lease_due({LANE: 1}, now=NOW)

        assert (leased.leases, leased.next_due) == ([], {LANE: LATER})

    async def test_next_due_of_all_lanes(self, store: Store) -> None:
        """``next_due``: every lane with waiting tasks that are not leased, and when."""
        await store.add(make_task("a", run_at=LATER, priority=100))
        await store.add(make_task("b", run_at=Moment(LATER - 1)))
        await store.add(make_task("c", queue="mail"))
        await store.add(make_task("d", queue="mail", url=ELSEWHERE, run_at=Moment(LATER + 1)))
        await store.restore([(make_ended("e", TaskState.DEAD, queue="over"), [])])
        before = await store.next_due()
        await store.lease_due({make_task(queue="mail").lane: 1}, now=NOW)

        after = await store.next_due()

        mail, far = make_task(queue="mail").lane, make_task(queue="mail", url=ELSEWHERE).lane
        assert before == {LANE: LATER - 1, mail: NOW, far: LATER + 1}
        assert after == {LANE: LATER - 1, far: LATER + 1}

    async def test_expired_task_is_leased_like_any_other(self, store: Store) -> None:
        """The dispatcher decides whether an expired task runs."""
        await store.add(make_task("a", expires_at=Moment(NOW - 1)))

        assert (await lease_one(store)).task.id == "a"

    @pytest.mark.parametrize(
        ("move", "counts", "changes"),
        [
            pytest.param(
                Complete(),
                True,
                {"state": TaskState.SUCCEEDED, "ended_at": LATER, "last_status": 200},
                id="complete",
            ),
            pytest.param(
                RetryAt(Moment(LATER + 5)),
                True,
                {"run_at": Moment(LATER + 5), "last_status": 500, "last_error": "went wrong"},
                id="retry",
            ),
            pytest.param(
                Bury(Reason.EXHAUSTED),
                True,
                {
                    "state": TaskState.DEAD,
                    "reason": Reason.EXHAUSTED,
                    "ended_at": LATER,
                    "last_status": 500,
                    "last_error": "went wrong",
                },
                id="bury",
            ),
            pytest.param(
                Bury(Reason.EXPIRED),
                False,
                {"state": TaskState.DEAD, "reason": Reason.EXPIRED, "ended_at": LATER},
                id="bury without an attempt",
            ),
        ],
    )
    async def test_finish_moves_the_task(
        self, store: Store, move: Move, counts: bool, changes: dict[str, object]
    ) -> None:
        """``finish``: record an attempt, move its task, and end the lease."""
        fields: dict[str, object] = {"attempt_count": 1, "attempt_total": 2, "round": 2}
        before = {"last_status": 418, "last_error": None, "due_at": Moment(NOW - 9), **fields}
        task = make_task("a", **before)
        await store.restore([(task, [])])
        lease = await lease_one(store)
        finish = finish_of(lease, move) if counts else Finish(lease, move)

        were_ours = await store.finish([finish], now=LATER)

        if counts:
            changes = {"attempt_count": 2, "attempt_total": 3, **changes}
        assert were_ours == [True]
        assert await store.get("a") == make_task("a", **{**before, **changes})
        assert await store.attempts("a") == ([finish.attempt] if counts else [])
        await assert_counts_are_true(store, ["a"])

    async def test_ends_of_one_call_are_independent(self, store: Store) -> None:
        """``finish``: returns for each whether its lease was still valid."""
        ids = list("abcd")
        for id in ids:
            await store.add(make_task(id))
        leases = await lease_all(store)
        await end(store, leases["b"], GiveBack())
        moves: list[Move] = [Complete(), Complete(), RetryAt(LATER), Bury(Reason.REFUSED)]
        finishes = [finish_of(leases[id], move) for id, move in zip(ids, moves, strict=True)]

        were_ours = await store.finish(finishes, now=NOW)

        assert were_ours == [True, False, True, True]
        states = [(await known(store, id)).state.value for id in ids]
        assert states == ["succeeded", "waiting", "waiting", "dead"]
        kept = [attempt for id in ids for attempt in await store.attempts(id)]
        assert kept == [finishes[place].attempt for place in (0, 2, 3)]
        await assert_counts_are_true(store, ids)

    async def test_no_ends_are_recorded(self, store: Store) -> None:
        """``finish``: end attempts."""
        assert await store.finish([], now=NOW) == []

    async def test_error_of_an_attempt_is_the_tasks_last(self, store: Store) -> None:
        """``finish``: record an attempt."""
        await store.add(make_task("a", last_status=500, last_error=None))
        finish = finish_of(await lease_one(store), RetryAt(NOW), status=None, error="reset")

        await store.finish([finish], now=NOW)

        task = await known(store, "a")
        assert (task.last_status, task.last_error) == (None, "reset")

    async def test_task_to_be_retried_can_be_leased_again(self, store: Store) -> None:
        """``finish``: move its task, and end the lease."""
        await store.add(make_task("a"))
        first = await lease_one(store)
        await end(store, first, RetryAt(LATER))

        early = await lease_all(store)
        lease = await lease_one(store, now=LATER)

        assert early == {}
        assert lease.task.attempt_count == 1
        assert lease.token != first.token

    @pytest.mark.parametrize(
        "again",
        [Complete(), RetryAt(LATER), Bury(Reason.REFUSED), GiveBack("gone")],
        ids=lambda move: type(move).__name__,
    )
    @pytest.mark.parametrize(
        "first",
        [Complete(), RetryAt(NOW), Bury(Reason.EXHAUSTED), GiveBack()],
        ids=lambda move: type(move).__name__,
    )
    async def test_lost_lease_changes_nothing(
        self, store: Store, first: Move | GiveBack, again: Move | GiveBack
    ) -> None:
        """``finish`` and ``give_back``: if the lease is not valid, nothing is changed."""
        await store.add(make_task("a"))
        lease = await lease_one(store)
        await end(store, lease, first)
        before = await store.get("a"), await store.attempts("a"), await store.counts()

        was_ours = await end(store, lease, again)

        assert was_ours is False
        assert (await store.get("a"), await store.attempts("a"), await store.counts()) == before

    @pytest.mark.parametrize("counts", [True, False], ids=["attempt", "no attempt"])
    async def test_attempt_ended_twice_at_once_ends_once(self, store: Store, counts: bool) -> None:
        """``finish``: returns whether the lease was still valid; if not, nothing is changed."""
        await store.add(make_task("a"))
        lease = await lease_one(store)
        move = Bury(Reason.EXPIRED)
        finish = finish_of(lease, move) if counts else Finish(lease, move)

        were_ours = await asyncio.gather(
            *(store.finish([finish] * count, now=NOW) for count in (1, 2, 1))
        )

        assert were_ours == [[True], [False, False], [False]]
        await assert_counts_are_true(store, ["a"])

    async def test_late_end_does_not_affect_the_new_lease(self, store: Store) -> None:
        """``Lease``: ``token`` distinguishes it from other leases of the same task."""
        await store.add(make_task("a"))
        old = await lease_one(store)
        await store.give_back(old, now=NOW)
        new = await lease_one(store)

        late = await end(store, old, Complete())
        ours = await end(store, new, RetryAt(LATER))

        assert (late, ours) == (False, True)
        assert (await known(store, "a")).run_at == LATER

    async def test_attempts_ended_together_are_all_recorded(self, store: Store) -> None:
        """Many calls may share one commit."""
        ids = [f"{n:03}" for n in range(60)]
        await asyncio.gather(*(store.add(make_task(id, queue=f"q{int(id) % 3}")) for id in ids))
        leases = await lease_all(store)
        moves: list[Move | GiveBack] = [
            Complete(),
            RetryAt(LATER),
            Bury(Reason.REFUSED),
            GiveBack(),
        ]

        were_ours = await asyncio.gather(
            *(end(store, leases[id], moves[int(id) % 4]) for id in ids)
        )

        assert all(were_ours)
        states = [(await known(store, id)).state for id in ids[:4]]
        assert states == [
            TaskState.SUCCEEDED,
            TaskState.WAITING,
            TaskState.DEAD,
            TaskState.WAITING,
        ]
        await assert_counts_are_true(store, ids)

    async def test_counts_are_true_after_every_step(self, store: Store) -> None:
        """``counts``: return every queue with its counts."""
        lane = make_task(queue="mail").lane
        ids = ["a", "b", "c"]
        for id in ids:
            await store.add(make_task(id, queue="mail"))
            await assert_counts_are_true(store, ids)
        moves: list[Move | GiveBack] = [
            *(RetryAt(NOW), GiveBack("refused"), RetryAt(NOW), Complete()),
            *(GiveBack(), Bury(Reason.REFUSED)),
        ]
        for move in moves:
            [lease] = (await store.lease_due({lane: 1}, now=NOW)).leases
            await assert_counts_are_true(store, ids)
            await end(store, lease, move)
            await assert_counts_are_true(store, ids)

        counts = await counts_of(store)

        assert counts == {"mail": QueueCounts(waiting=1, succeeded=1, dead=1)}

    async def test_queue_is_known_from_its_first_task(self, store: Store) -> None:
        """``counts``: return every queue with its counts."""
        before = await store.counts()
        await store.add(make_task(queue="mail"))

        assert "mail" not in before
        assert (await store.counts())["mail"] == QueueCounts(waiting=1)

    async def test_waiting_tasks_are_reported(self, store: Store) -> None:
        """``News.waits``: lanes with a task, and its ``run_at``."""
        notes = Notes()
        store.listen(notes)

        await store.add(make_task("a", run_at=LATER))
        told_of_add, notes.news = notes.waits, []
        lease = await lease_one(store, now=LATER)
        await end(store, lease, RetryAt(Moment(LATER + 7)))
        told_of_retry, notes.news = notes.waits, []
        lease = await lease_one(store, now=Moment(LATER + 7))
        await store.give_back(lease, now=Moment(LATER + 7))

        assert told_of_add == [(LANE, LATER)]
        assert told_of_retry == [(LANE, LATER + 7)]
        assert notes.waits == [(LANE, LATER + 7)]

    async def test_earliest_waiting_task_of_a_lane_is_reported(self, store: Store) -> None:
        """Many calls may share one commit; the earliest time counts."""
        notes = Notes()
        store.listen(notes)
        mail = make_task(queue="mail").lane

        await asyncio.gather(
            *(store.add(make_task(str(n), run_at=Moment(NOW + n * 7 % 20))) for n in range(1, 20)),
            store.add(make_task("mail", queue="mail", run_at=LATER)),
        )

        earliest = {
            lane: min(run_at for told, run_at in notes.waits if told == lane)
            for lane, _ in notes.waits
        }
        assert earliest == {LANE: NOW + 1, mail: LATER}

    async def test_ended_tasks_are_not_reported_as_waiting(self, store: Store) -> None:
        """``News.waits``: lanes with a task."""
        for id in "abc":
            await store.add(make_task(id))
        leases = await lease_all(store)
        notes = Notes()
        store.listen(notes)

        await end(store, leases["a"], Complete())
        await end(store, leases["b"], Bury(Reason.REFUSED))
        await end(store, leases["b"], RetryAt(NOW))
        await store.restore([(make_ended("d", TaskState.DEAD), [])])

        assert notes.waits == []
