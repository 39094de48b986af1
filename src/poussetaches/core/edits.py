"""What people do to tasks: run now, requeue, cancel; and which states allow it."""

from __future__ import annotations

import msgspec

from poussetaches.core.errors import StateConflict
from poussetaches.core.moment import Moment
from poussetaches.core.task import Reason, Task, TaskState, buried


def check_amendable(task: Task) -> None:
    """Refuse to change what is on its way, or was done.

    Raises:
        StateConflict: it is running or has succeeded.
    """
    if task.state not in (TaskState.WAITING, TaskState.DEAD):
        raise StateConflict(task.state, "waiting and dead")


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
    """Return a waiting task as dead, and a running one as not to be tried again.

    Raises:
        StateConflict: it has ended.
    """
    if task.state is TaskState.WAITING:
        return buried(task, Reason.CANCELLED, now=now)
    if task.state is TaskState.RUNNING:
        return msgspec.structs.replace(task, cancelled=True)
    raise StateConflict(task.state, "waiting and running")
