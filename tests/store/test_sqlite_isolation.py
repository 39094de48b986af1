"""A failing row stops no other row: only its task is ended, logged and counted."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from poussetaches.core.changes import BodyChange, Changes
from poussetaches.core.edits import Cancel, Delete, Edit, Requeue, Run
from poussetaches.core.errors import EditFailed, OutcomeUnknown, StoreUnavailable, TaskNotWritten
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.queue import Retention
from poussetaches.core.schedule import Overlap
from poussetaches.core.task import BodyKind, Bury, Complete, Reason, RetryAt, TaskState
from poussetaches.store.base import Push, PushResult
from poussetaches.store.export_records import QueueRecord, TaskRecord
from poussetaches.store.sqlite import SqliteStore
from poussetaches.store.sqlite.transaction import Step
from tests.factories import NOW, make_attempt, make_ended, make_queue, make_schedule, make_task
from tests.store.driving import (
    Notes,
    assert_counts_are_true,
    edit_all,
    end,
    finish_of,
    fired,
    known,
    lease_all,
    numbers_of,
    put_schedule,
)
from tests.store.faults import Faults
from tests.store.sqlite_files import BROKEN, Disk, inline_store, opened, raw

POISON = ("b", 2)  # the keys of the task that fails, among a, b and c
ALL = ("a", "b", "c")
LATER = Moment(NOW + HOUR)
TOLD = "http://told.test/"

# Unexpected exceptions, and errors that SQLite raises for one row.
ERRORS = [
    pytest.param(KeyError("a secret"), id="KeyError"),
    pytest.param(ValueError("netloc 'user:a secret' contains"), id="ValueError"),
    pytest.param(AssertionError(), id="AssertionError"),
    pytest.param(RecursionError("a secret"), id="RecursionError"),
    pytest.param(sqlite3.IntegrityError("a secret"), id="IntegrityError"),
    pytest.param(UnicodeEncodeError("utf-8", "a secret", 0, 1, "why"), id="UnicodeEncodeError"),
]


@dataclass
class Scene:
    """A store with the tasks a, b and c, where b fails."""

    store: SqliteStore
    path: Path
    faults: Faults
    notes: Notes

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        """Query the database without the store."""
        with closing(raw(self.path)) as database:
            return database.execute(statement).fetchall()

    def change_rows(self, statement: str) -> None:
        """Change the database without the store."""
        with closing(raw(self.path)) as database:
            database.executescript(statement)

    async def states(self) -> dict[str, str]:
        """Return the states of the existing tasks; of dead ones, the reason."""
        found = {}
        for id in ALL:
            task = await self.store.get(id)
            if task is not None:
                found[id] = task.reason.value if task.reason else task.state.value
        return found

    def set_aside(self) -> list[str]:
        """Return the ids of the tasks that were set aside."""
        rows = self.rows("SELECT content FROM unreadable WHERE origin_table = 'tasks'")
        return [json.loads(str(content))["id"] for (content,) in rows]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    path, faults, notes = tmp_path / "tasks.db", Faults(), Notes()
    async with opened(path, row_fault=faults) as store:
        store.listen(notes)
        yield Scene(store, path, faults, notes)


async def add_three(scene: Scene, **overrides: object) -> None:
    for id in ALL:
        await scene.store.add(make_task(id, **overrides))


# Operations in which a task can fail.


async def record_successes(scene: Scene) -> None:
    await add_three(scene)
    leases = await lease_all(scene.store)
    await asyncio.gather(*(end(scene.store, lease, Complete()) for lease in leases.values()))


async def record_failures(scene: Scene) -> None:
    await add_three(scene)
    leases = await lease_all(scene.store)
    await asyncio.gather(*(end(scene.store, lease, RetryAt(LATER)) for lease in leases.values()))


async def record_deaths(scene: Scene) -> None:
    await add_three(scene, on_dead=TOLD)
    leases = await lease_all(scene.store)
    ends = (end(scene.store, lease, Bury(Reason.EXHAUSTED)) for lease in leases.values())
    await asyncio.gather(*ends)


async def put_back(scene: Scene) -> None:
    await add_three(scene)
    leases = await lease_all(scene.store)
    backs = (scene.store.give_back(lease, now=NOW, error="away") for lease in leases.values())
    await asyncio.gather(*backs)


async def expire(scene: Scene) -> None:
    await add_three(scene, run_at=LATER, expires_at=NOW)
    while await scene.store.expire(now=NOW, limit=10):
        pass


async def cancel_each(scene: Scene) -> None:
    await add_three(scene, run_at=LATER)
    calls = (scene.store.edit(id, Cancel(NOW), now=NOW) for id in ALL)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, TaskNotWritten) for result in results] == [False, True, False]


async def cancel_many(scene: Scene) -> None:
    await add_three(scene, run_at=LATER)
    assert await edit_many(scene, Cancel(NOW)) == (2, {"failed": 1})


async def delete_many(scene: Scene) -> None:
    await add_three(scene, run_at=LATER)
    assert await edit_many(scene, Delete()) == (2, {"failed": 1})


async def delete_runs(scene: Scene) -> None:
    await put_schedule(scene.store, make_schedule("s", owner="app"))
    await add_three(scene, run_at=LATER, schedule="s")
    await scene.store.delete_schedules("app", now=NOW)
    assert await scene.store.schedule("s") is None


async def supersede(scene: Scene) -> None:
    schedule = make_schedule("s", overlap=Overlap.SKIP)
    await put_schedule(scene.store, schedule)
    await add_three(scene, run_at=LATER, schedule="s", attempt_count=1, attempt_total=1)
    run = make_task("run", schedule="s")
    assert await scene.store.fire(fired(schedule), run, now=NOW) is True
    assert (await known(scene.store, "run")).state is TaskState.WAITING


async def pull_back(scene: Scene) -> None:
    await add_three(scene, created_at=LATER, run_at=LATER)
    assert await scene.store.pull_back(now=NOW, was=LATER, confirmed=NOW) == 2


async def edit_many(scene: Scene, edit: Edit) -> tuple[int, dict[str, int]]:
    numbers = await numbers_of(scene.store, TaskFilter())
    return await edit_all(scene.store, sorted(numbers), edit)


Act = Callable[[Scene], Awaitable[None]]
GONE = ""


class FailingStep(NamedTuple):
    """An operation in which a row can fail: the step, and how the other rows end."""

    act: Act
    step: Step
    fate: str

    def states(self, **failed: str) -> dict[str, str]:
        """Return the expected states."""
        healthy = {} if self.fate is GONE else {"a": self.fate, "c": self.fate}
        return healthy | failed


PLACES = [
    FailingStep(record_successes, Step.RECORD, "succeeded"),
    FailingStep(record_failures, Step.RECORD, "waiting"),
    FailingStep(record_deaths, Step.RECORD, "exhausted"),
    FailingStep(put_back, Step.GIVE_BACK, "waiting"),
    FailingStep(expire, Step.BURY, "expired"),
    FailingStep(cancel_each, Step.EDIT, "cancelled"),
    FailingStep(cancel_many, Step.EDIT, "cancelled"),
    FailingStep(delete_many, Step.EDIT, GONE),
    FailingStep(delete_runs, Step.END_RUN, GONE),
    FailingStep(supersede, Step.BURY, "superseded"),
    FailingStep(pull_back, Step.PULL_BACK, "waiting"),
]
at_each_place = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.act.__name__)


@at_each_place
@pytest.mark.parametrize("error", ERRORS)
async def test_failing_task_dies_and_the_others_continue(
    scene: Scene,
    place: FailingStep,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene.faults.fail(place.step, keys=POISON, error=error)

    await place.act(scene)

    assert await scene.states() == place.states(b="internal_error")
    died = await known(scene.store, "b")
    assert f"internal error while {place.step}" in (died.last_error or "")
    assert (died.ended_at, died.state) == (NOW, TaskState.DEAD)
    assert scene.store.internal_error_count == 1
    assert scene.store.unreadable_count == 0
    assert [told[2] for told in scene.notes.changes if told[0] == "b"][-1] is TaskState.DEAD
    await assert_all_is_well(scene)
    [logged] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert logged.message == "row could not be processed"
    assert {"row": 2, "step": place.step.value, "fate": "buried"}.items() <= vars(logged).items()
    assert "a secret" not in str(vars(logged)) + str(died)


@at_each_place
async def test_task_that_cannot_be_buried_is_set_aside(
    scene: Scene, place: FailingStep, caplog: pytest.LogCaptureFixture
) -> None:
    scene.faults.fail(place.step, Step.BURY_FAILED, keys=POISON, error=KeyError())

    await place.act(scene)

    assert await scene.states() == place.states()
    assert scene.set_aside() == ["b"]
    assert (scene.store.internal_error_count, scene.store.unreadable_count) == (1, 1)
    assert "remedy failed" in caplog.messages
    await assert_all_is_well(scene)


@at_each_place
async def test_task_that_cannot_be_set_aside_is_skipped(scene: Scene, place: FailingStep) -> None:
    scene.faults.fail(place.step, Step.BURY_FAILED, Step.SET_ASIDE, keys=POISON, error=KeyError())

    await place.act(scene)

    assert await scene.states() == place.states(b="waiting")
    assert scene.set_aside() == []
    assert scene.store.internal_error_count == 1
    assert "b" not in await lease_all(scene.store, now=Moment(LATER + HOUR))
    await assert_all_is_well(scene)


@at_each_place
async def test_disk_error_ends_no_task(scene: Scene, place: FailingStep) -> None:
    scene.faults.fail(place.step, keys=POISON, error=BROKEN)

    with suppress(StoreUnavailable, AssertionError):
        await place.act(scene)

    assert scene.faults.raised[place.step]
    assert scene.store.trouble is not None
    assert scene.store.internal_error_count == 0
    assert "internal_error" not in {row[0] for row in scene.rows("SELECT reason FROM tasks")}


@at_each_place
async def test_memory_error_ends_no_task(scene: Scene, place: FailingStep) -> None:
    scene.faults.fail(place.step, keys=POISON, error=MemoryError())

    with suppress(StoreUnavailable, AssertionError):
        await place.act(scene)

    assert scene.faults.raised[place.step]
    assert scene.store.trouble is None
    assert scene.store.internal_error_count == 0
    assert "internal_error" not in {row[0] for row in scene.rows("SELECT reason FROM tasks")}


async def assert_all_is_well(scene: Scene) -> None:
    """Check that the failed row has left no trace, and that the store still works."""
    assert scene.store.trouble is None
    counts = scene.rows(
        "SELECT queues.name, waiting, failing, succeeded, dead FROM queues ORDER BY name"
    )
    counted = scene.rows(
        "SELECT queues.name, ifnull(sum(state = 'waiting'), 0),"
        " ifnull(sum(state = 'waiting' AND attempt_count > 0), 0),"
        " ifnull(sum(state = 'succeeded'), 0), ifnull(sum(state = 'dead'), 0)"
        " FROM queues LEFT JOIN tasks ON tasks.queue = queues.name"
        " GROUP BY queues.name ORDER BY queues.name"
    )
    assert counts == counted
    assert scene.rows("SELECT * FROM attempts WHERE task NOT IN (SELECT seq FROM tasks)") == []
    await scene.store.add(make_task("later"))
    assert "later" in await lease_all(scene.store)


async def test_failed_outcome_counts_its_attempt_and_ends_its_lease(scene: Scene) -> None:
    scene.faults.fail(Step.RECORD, keys=POISON, error=KeyError())

    await record_failures(scene)

    task = await known(scene.store, "b")
    assert (task.attempt_count, task.attempt_total) == (1, 1)
    assert (await scene.store.counts())["default"].running == 0


async def test_task_that_dies_of_an_internal_error_makes_its_callback(scene: Scene) -> None:
    scene.faults.fail(Step.RECORD, keys=POISON, error=KeyError())
    await add_three(scene, on_dead=TOLD)

    leases = await lease_all(scene.store)
    await end(scene.store, leases["b"], RetryAt(LATER))

    [(body,)] = scene.rows("SELECT body FROM tasks WHERE queue = 'callbacks'")
    assert isinstance(body, bytes)
    assert json.loads(body)["reason"] == "internal_error"


async def test_lost_lease_stays_lost_when_its_outcome_fails(scene: Scene) -> None:
    await add_three(scene)
    lease = (await lease_all(scene.store))["b"]
    await scene.store.edit("b", Delete(), now=NOW)
    scene.faults.fail(Step.RECORD, keys=POISON, error=KeyError())

    assert await end(scene.store, lease, Complete()) is False
    assert scene.store.internal_error_count == 0


@pytest.mark.parametrize("state", [TaskState.SUCCEEDED, TaskState.DEAD])
async def test_ended_task_that_cannot_be_pruned_is_set_aside(
    scene: Scene, state: TaskState
) -> None:
    await scene.store.restore([(make_ended(id, state), []) for id in ALL])
    scene.faults.fail(Step.PRUNE, keys=POISON, error=KeyError())

    await prune_all(scene, state)

    assert await scene.states() == {}
    assert scene.set_aside() == ["b"]
    await assert_all_is_well(scene)


async def test_ended_task_that_can_be_neither_pruned_nor_set_aside_is_skipped(
    scene: Scene,
) -> None:
    await scene.store.restore([(make_ended(id, TaskState.DEAD), []) for id in ALL])
    scene.faults.fail(Step.PRUNE, Step.SET_ASIDE, keys=POISON, error=KeyError())

    await prune_all(scene, TaskState.DEAD, limit=1)

    assert await scene.states() == {"b": "exhausted"}
    await assert_all_is_well(scene)


async def prune_all(scene: Scene, state: TaskState, *, limit: int = 10) -> None:
    keep = Retention(age=0, count=0)
    while await scene.store.prune("default", state, keep, now=NOW, limit=limit):
        pass


async def test_running_task_that_cannot_be_cancelled_continues_its_attempt(scene: Scene) -> None:
    await add_three(scene)
    leases = await lease_all(scene.store)
    scene.faults.fail(Step.EDIT, keys=POISON, error=KeyError())

    edited = await edit_many(scene, Cancel(NOW))
    were_ours = [await end(scene.store, lease, RetryAt(LATER)) for lease in leases.values()]

    assert edited == (2, {"failed": 1})
    assert were_ours == [True, True, True]
    assert await scene.states() == {"a": "cancelled", "b": "waiting", "c": "cancelled"}
    assert scene.store.internal_error_count == 1
    await assert_all_is_well(scene)


async def test_dead_task_that_cannot_be_requeued_is_not_changed(scene: Scene) -> None:
    await scene.store.restore([(make_ended(id, TaskState.DEAD), []) for id in ALL])
    scene.faults.fail(Step.EDIT, keys=POISON, error=KeyError())

    edited = await edit_many(scene, Requeue(at=LATER))

    assert edited == (2, {"failed": 1})
    assert await scene.states() == {"a": "waiting", "b": "exhausted", "c": "waiting"}
    assert scene.store.internal_error_count == 1
    await assert_all_is_well(scene)


async def test_edit_that_raises_leaves_its_task_unchanged(scene: Scene) -> None:
    await add_three(scene, run_at=LATER, body=b"{}", body_kind=BodyKind.JSON)
    scene.change_rows("UPDATE tasks SET body = X'7B' WHERE id = 'b'")
    body = BodyChange(kind=BodyKind.JSON, patch={"a": msgspec.Raw(b"1")}, max_body=100)
    change = Run(at=NOW, changes=Changes(body=body))

    edited = await edit_many(scene, change)
    with pytest.raises(EditFailed, match="internal error"):
        await scene.store.edit("b", change, now=NOW)

    assert edited == (2, {"failed": 1})
    assert [(await known(scene.store, id)).forced for id in ALL] == [True, False, True]
    assert scene.store.internal_error_count == 2
    await assert_all_is_well(scene)


@pytest.mark.parametrize("remedies", [(), (Step.BURY_FAILED,), (Step.BURY_FAILED, Step.SET_ASIDE)])
async def test_cancelled_task_that_fails_does_not_prevent_the_start(
    scene: Scene, remedies: tuple[Step, ...], caplog: pytest.LogCaptureFixture
) -> None:
    await add_three(scene)
    await scene.store.close()
    scene.change_rows("UPDATE tasks SET cancelled = 1")
    faults = Faults()
    faults.fail(Step.BURY, *remedies, keys=POISON, error=KeyError())

    async with opened(scene.path, row_fault=faults) as store:
        again = Scene(store, scene.path, faults, Notes())
        states = await again.states()
        assert store.internal_error_count == 1
        await assert_all_is_well(again)

    fates = [{"b": "internal_error"}, {}, {"b": "waiting"}]
    assert states == {"a": "cancelled", "c": "cancelled", **fates[len(remedies)]}


async def test_task_whose_body_cannot_be_replaced_is_set_aside_for_the_new_one(
    scene: Scene,
) -> None:
    await add_three(scene, run_at=LATER)
    scene.change_rows("UPDATE tasks SET unique_value = 'u' WHERE id = 'b'")
    scene.faults.fail(Step.REPLACE, keys=POISON, error=KeyError())
    task = make_task("d", unique="u", body=b"new")

    [pushed] = await scene.store.push([Push(task=task, replaces=True)], now=NOW)

    assert pushed == PushResult("d", task, existing=False)
    assert (await scene.states())["b"] == "internal_error"
    await assert_all_is_well(scene)


async def test_schedule_that_cannot_be_fired_is_paused(scene: Scene) -> None:
    schedules = [make_schedule(name) for name in "stu"]
    for schedule in schedules:
        await put_schedule(scene.store, schedule)
    scene.faults.fail(Step.FIRE, keys=("t",), error=KeyError())

    were_fired = await asyncio.gather(
        *(
            scene.store.fire(fired(schedule), make_task(f"run {schedule.name}"), now=NOW)
            for schedule in schedules
        )
    )

    assert were_fired == [True, False, True]
    assert await scene.store.schedule("t") == msgspec.structs.replace(schedules[1], paused=True)
    assert scene.notes.schedule_changes > 3
    assert await scene.store.get("run t") is None
    assert scene.store.internal_error_count == 1
    await assert_all_is_well(scene)


async def test_schedule_that_cannot_be_moved_or_paused_is_set_aside(scene: Scene) -> None:
    for name in "st":
        await put_schedule(scene.store, make_schedule(name))
    scene.faults.fail(Step.FIRE, Step.PAUSE_FAILED, keys=("t",), error=KeyError())

    await asyncio.gather(*(scene.store.move_schedule(make_schedule(name)) for name in "st"))

    assert [schedule.name for schedule in await scene.store.schedules(None)] == ["s"]
    assert scene.store.unreadable_count == 1


async def test_schedule_that_cannot_be_deleted_stops_no_other_deletion(scene: Scene) -> None:
    for name in "stu":
        await put_schedule(scene.store, make_schedule(name, owner="app"))
    keys = ("t",)
    scene.faults.fail(Step.DELETE_SCHEDULE, Step.SET_ASIDE, keys=keys, error=KeyError())

    await scene.store.delete_schedules("app", now=NOW)

    assert [schedule.name for schedule in await scene.store.schedules(None)] == ["t"]
    assert scene.store.internal_error_count == 1


async def test_task_that_cannot_be_restored_is_set_aside(scene: Scene) -> None:
    scene.faults.fail(Step.RESTORE, keys=POISON, error=KeyError())

    count = await scene.store.restore([(make_task(id), [make_attempt()]) for id in ALL])

    assert count == 2
    assert await scene.states() == {"a": "waiting", "c": "waiting"}
    [(content,)] = scene.rows("SELECT content FROM unreadable WHERE origin_table = 'tasks'")
    assert json.loads(str(content))[0]["id"] == "b"
    assert scene.store.unreadable_count == 1
    await assert_all_is_well(scene)


async def test_record_that_cannot_be_imported_is_set_aside(scene: Scene) -> None:
    scene.faults.fail(Step.IMPORT, keys=(*POISON, "QueueRecord"), error=KeyError())
    tasks = [TaskRecord(task=make_task(id)) for id in ALL]

    known_at = await scene.store.put_records([QueueRecord(queue=make_queue("q")), *tasks])

    assert known_at is None
    assert await scene.states() == {"a": "waiting", "c": "waiting"}
    rows = scene.rows("SELECT origin_table FROM unreadable ORDER BY id")
    assert rows == [("queues",), ("tasks",)]
    await assert_all_is_well(scene)


async def test_unreadable_row_that_cannot_be_set_aside_stops_no_reading(scene: Scene) -> None:
    await add_three(scene)
    scene.change_rows("UPDATE tasks SET headers = '{' WHERE id = 'b'")
    scene.faults.fail(Step.SET_ASIDE, keys=POISON, error=KeyError())

    assert await scene.states() == {"a": "waiting", "c": "waiting"}
    assert list(await lease_all(scene.store)) == ["a", "c"]
    assert scene.store.internal_error_count >= 1
    await assert_all_is_well(scene)


# Rows that the database refuses to change, at a statement in the middle of a step.

REFUSES_UPDATES = """
CREATE TRIGGER refuse_update BEFORE UPDATE ON tasks WHEN OLD.id = 'b'
BEGIN SELECT RAISE(ABORT, 'refused'); END;
"""
REFUSES_ALL = f"""{REFUSES_UPDATES}
CREATE TRIGGER refuse_delete BEFORE DELETE ON tasks WHEN OLD.id = 'b'
BEGIN SELECT RAISE(ABORT, 'refused'); END;
"""
REFUSES_ATTEMPTS = """
CREATE TRIGGER refuse_attempt BEFORE INSERT ON attempts WHEN NEW.task = 2
BEGIN SELECT RAISE(ABORT, 'refused'); END;
"""
REFUSES_GROUPS = """
CREATE TRIGGER refuse_group BEFORE INSERT ON failure_groups WHEN NEW.url_path = '/odd'
BEGIN SELECT RAISE(ABORT, 'refused'); END;
"""
# Deleting needs no update of the row; the leases of skipped tasks have ended.
UPDATING = [place for place in PLACES if place.fate is not GONE]


@pytest.mark.parametrize("place", UPDATING, ids=lambda place: place.act.__name__)
@pytest.mark.parametrize(
    ("trigger", "left"),
    [
        pytest.param(REFUSES_UPDATES, {}, id="set aside"),
        pytest.param(REFUSES_ALL, {"b": "waiting"}, id="left alone"),
    ],
)
async def test_row_that_the_database_refuses_to_change_stops_no_other(
    scene: Scene, place: FailingStep, trigger: str, left: dict[str, str]
) -> None:
    scene.change_rows(trigger)

    await place.act(scene)

    assert await scene.states() == place.states(**left)
    assert scene.store.internal_error_count == 1
    assert scene.store.unreadable_count == (not left)
    await assert_all_is_well(scene)


async def test_task_whose_attempt_cannot_be_stored_dies(scene: Scene) -> None:
    scene.change_rows(REFUSES_ATTEMPTS)

    await record_successes(scene)

    expected = {"a": "succeeded", "b": "internal_error", "c": "succeeded"}
    assert await scene.states() == expected
    assert "SQLITE_CONSTRAINT_TRIGGER" in str((await known(scene.store, "b")).last_error)
    await assert_all_is_well(scene)


async def test_task_whose_failure_group_cannot_be_stored_is_set_aside(scene: Scene) -> None:
    await add_three(scene)
    scene.change_rows("UPDATE tasks SET url = 'http://app.test:5000/odd' WHERE id = 'b'")
    scene.change_rows(REFUSES_GROUPS)

    for lease in (await lease_all(scene.store)).values():
        await end(scene.store, lease, RetryAt(LATER))

    assert await scene.states() == {"a": "waiting", "c": "waiting"}
    assert scene.set_aside() == ["b"]
    await assert_all_is_well(scene)


async def test_outcome_with_an_unpaired_surrogate_ends_only_its_task(scene: Scene) -> None:
    await add_three(scene)
    leases = await lease_all(scene.store)
    finishes = [
        finish_of(lease, RetryAt(LATER), error="\ud800" if id == "b" else "reset")
        for id, lease in leases.items()
    ]

    await scene.store.finish(finishes, now=NOW)

    assert await scene.states() == {"a": "waiting", "b": "internal_error", "c": "waiting"}
    await assert_all_is_well(scene)


async def test_many_rows_that_fail_are_all_ended(scene: Scene) -> None:
    for number in range(60):
        await scene.store.add(make_task(f"t{number}", run_at=LATER, expires_at=NOW))
    failing = tuple(range(10, 50))
    scene.faults.fail(Step.BURY, keys=failing, error=KeyError())

    while await scene.store.expire(now=NOW, limit=7):
        pass

    reasons = scene.rows("SELECT reason, count(*) FROM tasks GROUP BY reason ORDER BY reason")
    assert reasons == [("expired", 20), ("internal_error", 40)]
    assert scene.store.internal_error_count == 40
    await assert_all_is_well(scene)


async def test_skipped_rows_do_not_hide_later_ones(scene: Scene) -> None:
    for number in range(30):
        await scene.store.add(make_task(f"t{number}", run_at=LATER, expires_at=NOW))
    steps = (Step.BURY, Step.BURY_FAILED, Step.SET_ASIDE)
    scene.faults.fail(*steps, keys=tuple(range(1, 21)), error=KeyError())

    while await scene.store.expire(now=NOW, limit=5):
        pass

    rows = scene.rows("SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state")
    assert rows == [("dead", 10), ("waiting", 20)]


async def test_skipped_task_is_not_corrected_again_after_the_clock_was_set_back(
    scene: Scene,
) -> None:
    steps = (Step.PULL_BACK, Step.BURY_FAILED, Step.SET_ASIDE)
    scene.faults.fail(*steps, keys=POISON, error=KeyError())
    await pull_back(scene)

    assert await scene.store.pull_back(now=NOW, was=LATER, confirmed=NOW) == 0
    assert scene.store.internal_error_count == 1


async def test_disk_error_while_a_row_is_isolated_is_trouble(tmp_path: Path) -> None:
    disk, faults = Disk(), Faults()
    store = inline_store(tmp_path / "tasks.db", disk=disk, row_fault=faults)
    await store.open()
    for id in ALL:
        await store.add(make_task(id, run_at=LATER, expires_at=NOW))
    faults.fail(Step.BURY, keys=POISON, error=KeyError())
    disk.error = BROKEN

    with pytest.raises(OutcomeUnknown):
        await store.expire(now=NOW, limit=10)
    disk.error = None
    await store.recover()
    await store.expire(now=NOW, limit=10)

    assert (await known(store, "b")).reason is Reason.INTERNAL_ERROR
    assert (await known(store, "c")).reason is Reason.EXPIRED
    assert store.internal_error_count == 1
    await assert_counts_are_true(store, list(ALL))
    await store.close()
