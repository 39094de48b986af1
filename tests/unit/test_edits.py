from __future__ import annotations

import msgspec
import pytest

from poussetaches.core import edits
from poussetaches.core.changes import Changes
from poussetaches.core.errors import StateConflict
from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.task import Reason, Task, TaskState
from tests.factories import NOW, make_ended, make_task

LATER = Moment(NOW + HOUR)
RUNNING = make_task(state=TaskState.RUNNING)
SUCCEEDED = make_ended("done", TaskState.SUCCEEDED)
DEAD = make_ended("dead", TaskState.DEAD, attempt_count=3, attempt_total=3)


CHANGE = edits.Patch(Changes(fields={"priority": 5}))


@pytest.mark.parametrize("task", [make_task(), DEAD], ids=["waiting", "dead"])
def test_waiting_and_dead_tasks_can_be_patched(task: Task) -> None:
    changed = edits.edited(task, CHANGE)

    assert changed == msgspec.structs.replace(task, priority=5)


@pytest.mark.parametrize("task", [RUNNING, SUCCEEDED], ids=["running", "succeeded"])
def test_running_and_succeeded_tasks_cannot_be_patched(task: Task) -> None:
    with pytest.raises(StateConflict, match=f"the task is {task.state.value}"):
        edits.edited(task, CHANGE)


def test_task_is_patched_as_the_edit_leaves_it() -> None:
    changes = Changes(run_at=LATER)

    task = edits.edited(DEAD, edits.Requeue(at=NOW, changes=changes))

    assert task == make_task("dead", run_at=LATER, round=2, attempt_total=3)


def test_bulk_edit_spreads_due_times_by_place() -> None:
    edit = edits.Run(at=NOW, spread=3600)

    spread_out = [edits.spread_out(edit, place, 4) for place in (0, 2)]

    assert spread_out == [edits.Run(at=NOW), edits.Run(at=Moment(NOW + HOUR // 2))]


def test_task_told_to_run_is_due_and_no_pause_holds_it() -> None:
    task = edits.run(make_task(run_at=LATER, attempt_count=2), at=NOW)

    assert (task.run_at, task.due_at, task.forced) == (NOW, NOW, True)
    assert task.attempt_count == 2


def test_task_told_to_run_keeps_its_age() -> None:
    task = edits.run(make_task(run_at=LATER, due_at=NOW), at=Moment(NOW + 1))

    assert task.due_at == NOW


@pytest.mark.parametrize("task", [RUNNING, SUCCEEDED, DEAD], ids=["running", "succeeded", "dead"])
def test_only_waiting_tasks_can_be_told_to_run(task: Task) -> None:
    with pytest.raises(StateConflict, match="for waiting tasks only"):
        edits.run(task, at=NOW)


def test_requeued_task_begins_its_next_round() -> None:
    dead = make_ended(
        "dead",
        TaskState.DEAD,
        attempt_count=3,
        attempt_total=5,
        round=2,
        last_status=500,
        last_error="oh",
        expires_at=NOW,
        forced=True,
    )

    task = edits.requeue(dead, at=LATER)

    assert task == make_task("dead", run_at=LATER, round=3, attempt_total=5)


def test_succeeded_task_can_be_requeued() -> None:
    assert edits.requeue(SUCCEEDED, at=NOW).state is TaskState.WAITING


@pytest.mark.parametrize("task", [make_task(), RUNNING], ids=["waiting", "running"])
def test_only_ended_tasks_can_be_requeued(task: Task) -> None:
    with pytest.raises(StateConflict, match="for dead and succeeded tasks only"):
        edits.requeue(task, at=NOW)


def test_waiting_task_that_is_cancelled_is_dead() -> None:
    task = edits.cancel(make_task(), now=LATER)

    assert (task.state, task.reason, task.ended_at) == (TaskState.DEAD, Reason.CANCELLED, LATER)


def test_running_task_that_is_cancelled_goes_on() -> None:
    task = edits.cancel(RUNNING, now=LATER)

    assert (task.state, task.cancelled) == (TaskState.RUNNING, True)


@pytest.mark.parametrize("task", [SUCCEEDED, DEAD], ids=["succeeded", "dead"])
def test_ended_task_cannot_be_cancelled(task: Task) -> None:
    with pytest.raises(StateConflict, match="for waiting and running tasks only"):
        edits.cancel(task, now=NOW)
