"""Edits: manual changes to tasks as values, and their application to a task."""

from __future__ import annotations

import msgspec

from poussetaches.core.changes import NO_CHANGES, Changes, amended
from poussetaches.core.errors import StateConflict
from poussetaches.core.moment import Moment, later
from poussetaches.core.task import Reason, Task, TaskState, buried


class Patch(msgspec.Struct, frozen=True):
    """Change the fields of a waiting or dead task."""

    changes: Changes


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Make a waiting task due at a moment, past its delay, its backoff and any pause."""

    at: Moment
    changes: Changes = NO_CHANGES
    spread: float = 0.0  # seconds after ``at`` that the tasks of a bulk edit are spread over


class Requeue(msgspec.Struct, frozen=True, kw_only=True):
    """Send an ended task on its next round, due at a moment."""

    at: Moment
    changes: Changes = NO_CHANGES
    spread: float = 0.0  # seconds after ``at`` that the tasks of a bulk edit are spread over


class Cancel(msgspec.Struct, frozen=True):
    """End a waiting task, or prevent retries of a running one."""

    now: Moment


class Delete(msgspec.Struct, frozen=True):
    """Delete a task in any state."""


Edit = Patch | Run | Requeue | Cancel | Delete


def edited(task: Task, edit: Edit) -> Task | None:
    """Return a task as an edit leaves it; None if it is deleted.

    Raises:
        StateConflict: the task's state does not allow the edit.
        InvalidTask: the changes do not fit this task.
        TargetNotAllowed: sending to the new target is not allowed.
    """
    match edit:
        case Patch():
            if task.state not in (TaskState.WAITING, TaskState.DEAD):
                raise StateConflict(task.state, "waiting and dead")
            return amended(task, edit.changes)
        case Run():
            return amended(run(task, at=edit.at), edit.changes)
        case Requeue():
            return amended(requeue(task, at=edit.at), edit.changes)
        case Cancel():
            return cancel(task, now=edit.now)
        case Delete():
            return None


def spread_out(edit: Edit, index: int, count: int) -> Edit:
    """Return the edit of one of ``count`` tasks, due at its part of the spread."""
    if not isinstance(edit, Run | Requeue) or not edit.spread:
        return edit
    at = later(edit.at, edit.spread * index / count)
    return msgspec.structs.replace(edit, at=at, spread=0.0)


def run(task: Task, *, at: Moment) -> Task:
    """Return a waiting task as due at a moment, past its delay, its backoff and any pause.

    Raises:
        StateConflict: it does not wait.
    """
    if task.state is not TaskState.WAITING:
        raise StateConflict(task.state, "waiting")
    return msgspec.structs.replace(task, run_at=at, due_at=min(task.due_at, at), forced=True)


def requeue(task: Task, *, at: Moment) -> Task:
    """Return an ended task at the beginning of its next round, due at a moment.

    Raises:
        StateConflict: it has not ended.
    """
    if task.state not in (TaskState.DEAD, TaskState.SUCCEEDED):
        raise StateConflict(task.state, "dead and succeeded")
    return msgspec.structs.replace(
        task,
        state=TaskState.WAITING,
        reason=None,
        ended_at=None,
        run_at=at,
        due_at=at,
        expires_at=None,
        round=task.round + 1,
        attempt_count=0,
        last_status=None,
        last_error=None,
        forced=False,
    )


def cancel(task: Task, *, now: Moment) -> Task:
    """Return a waiting task as dead, and a running one as cancelled, so that it is not retried.

    Raises:
        StateConflict: it has ended.
    """
    if task.state is TaskState.WAITING:
        return buried(task, Reason.CANCELLED, now=now)
    if task.state is TaskState.RUNNING:
        return msgspec.structs.replace(task, cancelled=True)
    raise StateConflict(task.state, "waiting and running")
