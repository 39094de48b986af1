"""The rules of ``Store`` about changing schedules, their overlap, and runs by hand."""

from __future__ import annotations

import msgspec
import pytest

from poussetaches.core.errors import InvalidSchedule, OlderVersion, OwnedByAnother, TooMany
from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.schedule import MAX_RUNS, MAX_SCHEDULES, Misfire, Overlap, Schedule
from poussetaches.core.task import RetryAt, TaskState
from poussetaches.store.base import Change, Push, Store
from tests.factories import NOW, make_schedule, make_task
from tests.store.driving import (
    Notes,
    assert_counts_are_true,
    end,
    fire,
    known,
    lease_one,
    put_schedule,
)

NEXT = Moment(NOW + HOUR)
FULL = make_schedule(
    "full",
    owner="",
    cron="*/5 * * * *",
    timezone="Europe/Paris",
    misfire=Misfire.ALL,
    misfire_grace=30.0,
    overlap=Overlap.ALLOW,
    paused=True,
    task=make_task("t", url="/nightly", labels={"l": "v"}, unique="u"),
)


def owned(name: str, **overrides: object) -> Schedule:
    """Return a schedule of the application ``app``."""
    return make_schedule(name, **{"owner": "app", **overrides})


def refused(schedule: Schedule | None) -> Schedule:
    """Refuse to edit a schedule."""
    raise InvalidSchedule("cron", "is odd")


class ScheduleChangeRules:
    """Rules for all stores about changed schedules. Subclasses provide ``store``."""

    async def test_edited_schedule_is_stored_completely(self, store: Store) -> None:
        """``edit_schedule``: replace a schedule by the result of ``edit``; return it."""
        seen: list[Schedule | None] = []

        def edit(found: Schedule | None) -> Schedule:
            seen.append(found)
            return FULL

        await put_schedule(store, make_schedule("full"))
        kept = await store.edit_schedule("full", edit, now=NOW)

        assert seen == [make_schedule("full")]
        assert kept == FULL
        assert await store.schedule("full") == FULL

    async def test_schedule_edit_that_changes_nothing_is_not_reported(self, store: Store) -> None:
        """``News``: the changes of one commit."""
        await put_schedule(store, make_schedule())
        notes = Notes()
        store.listen(notes)

        await store.edit_schedule("schedule", lambda found: found, now=NOW)

        assert notes.news == []

    async def test_refused_edit_changes_no_schedule(self, store: Store) -> None:
        """``edit_schedule``: what ``edit`` raises is raised here."""
        with pytest.raises(InvalidSchedule):
            await store.edit_schedule("a", refused, now=NOW)

        assert await store.schedule("a") is None

    async def test_waiting_runs_of_a_deleted_schedule_are_deleted(self, store: Store) -> None:
        """``edit_schedule``: deleting a schedule deletes its waiting runs."""
        for name in ("waits", "runs"):
            await put_schedule(store, make_schedule(name))
        await fire(store, make_schedule("runs"), "a")
        lease = await lease_one(store)
        await fire(store, make_schedule("waits"), "b")

        for name in ("waits", "runs"):
            assert await store.edit_schedule(name, lambda _: None, now=NOW) is None
        await end(store, lease, RetryAt(NEXT))

        assert await store.schedules(None) == []
        assert await store.get("b") is None
        assert (await known(store, "a")).state is TaskState.DEAD
        await assert_counts_are_true(store, ["a"])

    async def test_every_schedule_is_listed(self, store: Store) -> None:
        """``schedules``: all of them for None, earliest ``next_run_at`` first."""
        late, soon = make_schedule("a", next_run_at=NEXT), make_schedule("b", owner="app")
        for schedule in (late, soon):
            await put_schedule(store, schedule)

        assert await store.schedules(None) == [soon, late]
        assert await store.schedule("nobody") is None

    async def test_paused_schedule_is_not_due(self, store: Store) -> None:
        """``due_schedules`` and ``next_schedule_at``: schedules that are not paused."""
        await put_schedule(store, make_schedule("a", paused=True))
        await put_schedule(store, make_schedule("b", next_run_at=NEXT))

        assert await store.due_schedules(NOW) == []
        assert await store.next_schedule_at() == NEXT

    async def test_set_of_an_owner_is_replaced(self, store: Store) -> None:
        """``replace_schedules``: replace an owner's schedules by these."""
        await store.replace_schedules("app", 1, [owned("stays"), owned("goes")], now=NOW)
        await put_schedule(store, make_schedule("theirs"))
        await fire(store, owned("stays"), "a")
        await fire(store, owned("goes"), "b")
        before = await store.schedule("stays")

        await store.replace_schedules("app", 2, [owned("stays"), owned("new")], now=NOW)

        assert await store.schedule("stays") == before
        assert {schedule.name for schedule in await store.schedules("app")} == {"stays", "new"}
        assert [await store.get("b"), await store.schedule("goes")] == [None, None]
        assert await store.schedule("theirs") == make_schedule("theirs")
        assert await store.get("a") is not None

    async def test_changed_schedule_keeps_its_pause_and_history(self, store: Store) -> None:
        """``replace_schedules``: each as ``redeclared`` returns it."""
        await put_schedule(store, owned("a", paused=True, last_fired_at=NOW, last_task_id="x"))
        new = owned("a", task=make_task("t", body=b"new"), created_at=NOW, anchor_at=NOW)

        await store.replace_schedules("app", None, [new], now=NOW)

        kept = owned("a", task=new.task, paused=True, last_fired_at=NOW, last_task_id="x")
        assert await store.schedules("app") == [kept]

    async def test_schedules_are_limited_in_number(self, store: Store) -> None:
        """``edit_schedule`` and ``replace_schedules``: no more than ``MAX_SCHEDULES``."""
        most = [owned(f"s{number}") for number in range(MAX_SCHEDULES)]
        await store.replace_schedules("app", None, most, now=NOW)

        with pytest.raises(TooMany):
            await store.edit_schedule("more", lambda _: make_schedule("more"), now=NOW)
        with pytest.raises(TooMany):
            await store.replace_schedules("app", None, [*most, owned("more")], now=NOW)

        assert len(await store.schedules(None)) == MAX_SCHEDULES

    async def test_unchanged_set_is_not_reported(self, store: Store) -> None:
        """``replace_schedules``: an unchanged schedule stays unchanged."""
        await store.replace_schedules("app", 1, [owned("a")], now=NOW)
        notes = Notes()
        store.listen(notes)

        await store.replace_schedules("app", 1, [owned("a")], now=NOW)

        assert notes.news == []

    @pytest.mark.parametrize("owner", ["", "other"])
    async def test_schedule_of_another_owner_is_not_taken(self, store: Store, owner: str) -> None:
        """``replace_schedules``: a name belongs to a schedule of another owner, or without one."""
        await put_schedule(store, make_schedule("b", owner=owner))
        await store.replace_schedules("app", 1, [owned("old")], now=NOW)

        with pytest.raises(OwnedByAnother, match="the schedule 'b' belongs to"):
            await store.replace_schedules("app", 2, [owned("a"), owned("b")], now=NOW)

        assert await store.schedules("app") == [owned("old")]

    async def test_older_version_of_a_set_is_refused(self, store: Store) -> None:
        """``replace_schedules``: a later version was stored already."""
        await store.replace_schedules("app", 5, [owned("a")], now=NOW)

        with pytest.raises(OlderVersion):
            await store.replace_schedules("app", 4, [], now=NOW)
        await store.replace_schedules("other", 1, [], now=NOW)
        await store.replace_schedules("app", None, [owned("b")], now=NOW)
        with pytest.raises(OlderVersion):
            await store.replace_schedules("app", 4, [], now=NOW)

        assert await store.schedules("app") == [owned("b")]

    async def test_runs_overlap_if_allowed(self, store: Store) -> None:
        """``fire``: with *allow*, ``MAX_RUNS`` unfinished runs block."""
        schedule = make_schedule("s", overlap=Overlap.ALLOW)
        await put_schedule(store, schedule)
        runs = [make_task(f"{n:03}", schedule="s") for n in range(MAX_RUNS - 1)]
        await store.push([Push(task=run) for run in runs], now=NOW)

        was_added = await fire(store, schedule, "last")
        one_too_many = await fire(store, schedule, "more", occurrence=NEXT)

        assert (was_added, one_too_many) == (True, False)
        kept = await store.schedule("s")
        assert kept is not None
        assert (kept.last_fired_at, kept.last_task_id) == (NEXT, None)

    async def test_failing_run_continues_if_runs_may_overlap(self, store: Store) -> None:
        """``fire``: one that waits for a retry dies, with ``overlap`` *skip*."""
        schedule = make_schedule("s", overlap=Overlap.ALLOW)
        await put_schedule(store, schedule)
        await fire(store, schedule, "first")
        await end(store, await lease_one(store), RetryAt(NEXT))

        await fire(store, schedule, "second", occurrence=NEXT)

        assert (await known(store, "first")).state is TaskState.WAITING

    async def test_paused_schedule_does_not_fire(self, store: Store) -> None:
        """``fire``: a schedule that is paused stays unchanged."""
        paused = make_schedule("s", paused=True)
        await put_schedule(store, paused)

        was_added = await fire(store, make_schedule("s"), "run")

        assert was_added is False
        assert await store.schedule("s") == paused

    async def test_manual_run_is_added_in_any_state_of_the_last_one(self, store: Store) -> None:
        """``fire_by_hand``: regardless of its times and last run; False if it is deleted."""
        schedule = make_schedule("s", next_run_at=NEXT, paused=True)
        await put_schedule(store, schedule)
        notes = Notes()
        store.listen(notes)

        were_there = [
            await store.fire_by_hand(name, make_task(id, schedule=name))
            for name, id in (("s", "a"), ("s", "b"), ("gone", "c"))
        ]

        assert were_there == [True, True, False]
        assert await store.schedule("s") == msgspec.structs.replace(schedule, last_task_id="b")
        assert await store.get("c") is None
        assert [(id, change) for id, change, _ in notes.changes] == [
            ("a", Change.PUSHED),
            ("b", Change.PUSHED),
        ]
        await assert_counts_are_true(store, ["a", "b"])
