"""The rules of ``Store`` about finding tasks: filters, pages, failure groups, who is ahead."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from poussetaches.core.edits import Delete, Run
from poussetaches.core.failure_group import FailureGroup, group_of
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.task import Bury, Complete, Reason, RetryAt, TaskState
from poussetaches.store.base import SCAN, FailureCount, Push, Store
from tests.factories import NOW, make_ended, make_task
from tests.store.driving import (
    ELSEWHERE,
    LANE,
    Notes,
    end,
    finish_of,
    found_by,
    lease_all,
    lease_one,
    numbers_of,
)

LATER = Moment(NOW + HOUR)
WAITING, RUNNING = TaskState.WAITING, TaskState.RUNNING
SUCCEEDED, DEAD = TaskState.SUCCEEDED, TaskState.DEAD
GROUP = group_of(queue="default", url="http://app.test:5000/run", status=500, error="went wrong")

# Tasks in the order of adding; each differs from the others in these fields.
TASKS = [
    make_task("plain", created_at=Moment(NOW - 50), run_at=LATER),
    make_task("mail", queue="mail", run_at=LATER, key="k", schedule="nightly"),
    make_task("labelled", labels={"user": "Ann", "team": "x"}, run_at=LATER),
    make_task("labelled too", labels={"user": "Ann"}, queue="mail", run_at=LATER),
    make_task("elsewhere", url=ELSEWHERE, run_at=LATER),
    make_task("fails", attempt_count=1, last_status=500, last_error="went wrong", run_at=LATER),
    make_task("runs"),
    make_ended("done", SUCCEEDED, ended_at=Moment(NOW - 40)),
    make_ended("dead", DEAD, last_status=500, last_error="went wrong"),
    make_ended("refused", DEAD, reason=Reason.REFUSED, queue="mail", last_error="Ünlike <1>"),
]
NEWEST_FIRST = [task.id for task in reversed(TASKS)]


def states(*wanted: TaskState) -> TaskFilter:
    """Return a filter by state."""
    return TaskFilter(states=frozenset(wanted))


FILTERS: list[tuple[TaskFilter, set[str]]] = [
    (TaskFilter(), set(NEWEST_FIRST)),
    (TaskFilter(ids=("runs", "plain", "nobody")), {"plain", "runs"}),
    (TaskFilter(ids=()), set()),
    (states(), set()),
    (
        states(WAITING),
        {"plain", "mail", "labelled", "labelled too", "elsewhere", "fails"},
    ),
    (states(RUNNING), {"runs"}),
    (
        states(WAITING, RUNNING),
        {"plain", "mail", "labelled", "labelled too", "elsewhere", "fails", "runs"},
    ),
    (states(DEAD), {"dead", "refused"}),
    (states(SUCCEEDED, DEAD), {"done", "dead", "refused"}),
    (states(RUNNING, DEAD), {"runs", "dead", "refused"}),
    (states(*TaskState), set(NEWEST_FIRST)),
    (TaskFilter(failing=True), {"fails"}),
    (TaskFilter(failing=True, queue="mail"), set()),
    (TaskFilter(failing=True, states=frozenset({RUNNING})), set()),
    (TaskFilter(queue="mail"), {"mail", "labelled too", "refused"}),
    (TaskFilter(queue="nobody"), set()),
    (TaskFilter(queue="mail", states=frozenset({DEAD})), {"refused"}),
    (TaskFilter(queue="mail", states=frozenset({RUNNING})), set()),
    (TaskFilter(labels=(("user", "Ann"),)), {"labelled", "labelled too"}),
    (TaskFilter(labels=(("user", "Ann"), ("team", "x"))), {"labelled"}),
    (TaskFilter(labels=(("user", "Ann"),), queue="mail"), {"labelled too"}),
    (TaskFilter(labels=(("user", "Bob"),)), set()),
    (TaskFilter(url="http://elsewhere"), {"elsewhere"}),
    (TaskFilter(url="http://e%"), set()),
    (TaskFilter(key="k"), {"mail"}),
    (TaskFilter(key="k", states=frozenset({DEAD})), set()),
    (TaskFilter(schedule="nightly"), {"mail"}),
    (TaskFilter(reason=Reason.REFUSED), {"refused"}),
    (TaskFilter(reason=Reason.REFUSED, states=frozenset({WAITING})), set()),
    (TaskFilter(group=GROUP.id), {"fails", "dead"}),
    (TaskFilter(group=GROUP.id, states=frozenset({DEAD})), {"dead"}),
    (TaskFilter(group=GROUP.id, states=frozenset({WAITING})), {"fails"}),
    (TaskFilter(group="0" * 16), set()),
    (TaskFilter(text="WRONG"), {"fails", "dead"}),
    (TaskFilter(text="ELSEwhere"), {"elsewhere"}),
    (TaskFilter(text="nn"), {"labelled", "labelled too"}),
    (TaskFilter(text="Ünlike <1>"), {"refused"}),
    (TaskFilter(text="%"), set()),
    (TaskFilter(until=Moment(NOW - 50)), set()),
    (TaskFilter(since=Moment(NOW - 50), until=NOW), {"plain"}),
    (TaskFilter(ended_since=Moment(NOW - 40), ended_until=NOW), {"done"}),
    (TaskFilter(ended_since=NOW), {"dead", "refused"}),
]


class SearchRules:
    """Rules for all stores about searches. Subclasses provide the ``store`` fixture."""

    @pytest.mark.parametrize("limit", [1, 3, 1000])
    async def test_filter_selects_the_matching_tasks(self, store: Store, limit: int) -> None:
        """``tasks`` and ``select``: the one added last first."""
        await store.restore([(task, []) for task in TASKS])
        await lease_one(store)

        found = [await found_by(store, filter, limit=limit) for filter, _ in FILTERS]
        counts = [len(await numbers_of(store, filter, limit=limit)) for filter, _ in FILTERS]

        expected = [[id for id in NEWEST_FIRST if id in ids] for _, ids in FILTERS]
        assert found == expected
        assert counts == [len(ids) for _, ids in FILTERS]

    async def test_filter_agrees_with_a_check_of_each_task(self, store: Store) -> None:
        """``edit_slice``: if the filter still selects them."""
        await store.restore([(task, []) for task in TASKS])
        await lease_one(store)
        everything = await numbers_of(store, TaskFilter())

        counts = [
            (
                await store.edit_slice(
                    everything, Delete(), start=0, filter=filter, now=NOW, dry_run=True
                )
            ).count
            for filter, _ in FILTERS
        ]

        assert counts == [len(ids) for _, ids in FILTERS]

    async def test_listed_tasks_are_without_their_bodies(self, store: Store) -> None:
        """``tasks``: without their bodies."""
        task = make_task("a", headers={"X": "1"}, body=b"body", labels={"l": "v"})
        await store.add(task)
        await lease_one(store)

        page = await store.tasks(TaskFilter(), after=None, limit=10)

        assert page.tasks == [msgspec.structs.replace(task, headers={}, body=b"", state=RUNNING)]
        assert page.after is None

    async def test_last_page_has_nothing_after_it(self, store: Store) -> None:
        """``Page``: ``after`` is None at the end."""
        for id in "abcd":
            await store.add(make_task(id))

        first = await store.tasks(TaskFilter(), after=None, limit=2)
        last = await store.tasks(TaskFilter(), after=first.after, limit=2)

        assert [task.id for task in first.tasks] == ["d", "c"]
        assert ([task.id for task in last.tasks], last.after) == (["b", "a"], None)

    async def test_task_added_between_pages_shifts_no_other(self, store: Store) -> None:
        """``tasks``: ``after`` continues the list."""
        for id in "abc":
            await store.add(make_task(id))
        first = await store.tasks(TaskFilter(), after=None, limit=1)
        await store.add(make_task("d"))

        rest = await store.tasks(TaskFilter(), after=first.after, limit=5)

        assert [task.id for task in rest.tasks] == ["b", "a"]

    async def test_page_ends_after_the_limit_of_read_rows(self, store: Store) -> None:
        """``SCAN``: the number of rows examined for one page."""
        rare = make_task("rare", url=ELSEWHERE)
        many = [make_task(str(n)) for n in range(SCAN)]
        await store.push([Push(task=task) for task in [rare, *many]], now=NOW)
        filter = TaskFilter(url=ELSEWHERE, states=frozenset({WAITING}))

        first = await store.tasks(filter, after=None, limit=10)
        second = await store.tasks(filter, after=first.after, limit=10)

        assert first.tasks == []
        assert first.after is not None
        assert ([task.id for task in second.tasks], second.after) == (["rare"], None)

    @pytest.mark.parametrize("count", [3, 230])
    async def test_tasks_of_many_queues_are_one_list(self, store: Store, count: int) -> None:
        """``tasks``: the one added last first, across queues."""
        ids = [f"{n:03}" for n in range(count)]
        await store.push([Push(task=make_task(id, queue=f"q{id}")) for id in ids], now=NOW)

        waiting = await found_by(store, states(WAITING), limit=50)
        named = await found_by(store, TaskFilter(states=frozenset({WAITING}), url="http://"))

        assert waiting == named == ids[::-1]

    async def test_failures_are_counted_by_their_groups(self, store: Store) -> None:
        """``failures``: the groups of dead, or of failing tasks, largest first."""
        for n in range(6):
            await store.add(make_task(str(n), url=f"http://app.test:5000/users/{n}"))
        leases = await lease_all(store)
        moves = [RetryAt(LATER)] * 3 + [Bury(Reason.EXHAUSTED)] * 2 + [Complete()]
        for n, move in enumerate(moves):
            finish = finish_of(leases[str(n)], move, response_body=b"no user %d" % n)
            await store.finish([finish], now=Moment(NOW + n))
        await store.give_back(next(iter((await lease_all(store, now=LATER)).values())), now=LATER)

        failing, dead = await store.failures(WAITING), await store.failures(DEAD)

        group = FailureGroup(queue="default", url_path="/users/*", status=500, error="no user *")
        assert failing == await store.failures(RUNNING)
        assert failing == [
            FailureCount(
                group=group, count=3, first_at=NOW, last_at=Moment(NOW + 2), example_id="2"
            )
        ]
        assert dead == [
            FailureCount(
                group=group,
                count=2,
                first_at=Moment(NOW + 3),
                last_at=Moment(NOW + 4),
                example_id="4",
            )
        ]

    async def test_largest_group_comes_first(self, store: Store) -> None:
        """``failures``: largest first."""
        urls = ["/one", "/three", "/two", "/three", "/two", "/three"]
        ended = [make_ended(str(n), DEAD, url=url) for n, url in enumerate(urls)]
        await store.restore([(task, []) for task in ended])

        found = await store.failures(DEAD)

        assert [(one.group.url_path, one.count) for one in found] == [
            ("/three", 3),
            ("/two", 2),
            ("/one", 1),
        ]

    async def test_task_leaves_its_group_when_it_succeeds(self, store: Store) -> None:
        """``failures``: the groups of dead, or of failing tasks."""
        await store.add(make_task("a"))
        await end(store, await lease_one(store), RetryAt(NOW))
        before = await store.failures(WAITING)
        await end(store, await lease_one(store), Complete())

        assert [one.count for one in before] == [1]
        assert await store.failures(WAITING) == []

    async def test_new_groups_are_reported(self, store: Store) -> None:
        """``News``: new groups."""
        notes = Notes()
        store.listen(notes)
        for id in "abc":
            await store.add(make_task(id, url=ELSEWHERE if id == "c" else "/run"))
        leases = await lease_all(store)

        await asyncio.gather(*(end(store, lease, RetryAt(NOW)) for lease in leases.values()))
        for lease in (await lease_all(store)).values():
            await end(store, lease, Bury(Reason.EXHAUSTED))

        assert sorted(group.url_path for group in notes.groups) == ["/", "/run"]

    async def test_due_tasks_of_the_lane_are_ahead(self, store: Store) -> None:
        """``count_ahead``: return the number of due tasks of its lane that come before a task."""
        for task in (
            make_task("higher", priority=5),
            make_task("higher, not due", priority=5, run_at=LATER),
            make_task("earlier", run_at=Moment(NOW - 5)),
            make_task("added before"),
            make_task("it"),
            make_task("added after"),
            make_task("lower", priority=-5, run_at=Moment(NOW - 9)),
            make_task("elsewhere", url=ELSEWHERE, priority=100),
        ):
            await store.add(task)

        assert await store.count_ahead("it", now=NOW, limit=100) == 3
        assert await store.count_ahead("it", now=NOW, limit=2) == 2
        assert await store.count_ahead("higher, not due", now=NOW, limit=100) == 1

    async def test_leased_and_forced_tasks_are_not_ahead(self, store: Store) -> None:
        """``count_ahead``: due tasks of its lane."""
        for id in ("runs", "forced", "waits", "it"):
            await store.add(make_task(id))
        await store.edit("forced", Run(at=NOW), now=NOW)
        await store.lease_due({LANE: 1}, now=NOW)

        assert await store.count_ahead("it", now=NOW, limit=100) == 1
        assert await store.count_ahead("runs", now=NOW, limit=100) == 0
        assert await store.count_ahead("nobody", now=NOW, limit=100) == 0
