"""Callbacks: tasks that report the end of other tasks."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from poussetaches.core.errors import InvalidTask
from poussetaches.core.moment import Moment, rfc3339
from poussetaches.core.queue import CALLBACKS_QUEUE, QueueOverrides
from poussetaches.core.target import MAX_URL, check_url
from poussetaches.core.task import NO_CALLBACK, Attempt, BodyKind, Task, TaskState

URL_EXAMPLES = ["http://127.0.0.1:5000/tasks/mail"]
CallbackUrl = Annotated[str, Meta(max_length=MAX_URL, examples=URL_EXAMPLES)]


def check_callback(field: str, url: str) -> None:
    """Check the URL of a callback; the empty string means no callback, and is allowed.

    Raises:
        InvalidTask: no task may have this URL.
    """
    if url == NO_CALLBACK:
        return
    try:
        check_url(url)
    except InvalidTask as exc:
        raise InvalidTask(field, exc.reason) from None


def callback_of(
    task: Task, attempt: Attempt | None, queue: QueueOverrides, *, id: str, now: Moment
) -> Task | None:
    """Return the task that reports the end of another; None if no callback is set.

    It has no callbacks of its own. It does not contain the headers and body of the ended task.
    """
    if task.state is TaskState.SUCCEEDED:
        url = queue.on_success if task.on_success is None else task.on_success
    elif task.state is TaskState.DEAD:
        url = queue.on_dead if task.on_dead is None else task.on_dead
    else:
        return None
    if not url:
        return None
    return Task(
        id=id,
        url=url,
        queue=CALLBACKS_QUEUE,
        body=msgspec.json.encode(_account(task, attempt)),
        body_kind=BodyKind.JSON,
        on_success=NO_CALLBACK,
        on_dead=NO_CALLBACK,
        created_at=now,
        run_at=now,
        due_at=now,
    )


def _account(task: Task, attempt: Attempt | None) -> dict[str, object]:
    return {
        "id": task.id,
        "queue": task.queue,
        "state": task.state.value,
        "reason": None if task.reason is None else task.reason.value,
        "labels": task.labels,
        "url": task.url,
        "attempt_count": task.attempt_count,
        "last_attempt": None if attempt is None else _account_of(attempt),
    }


def _account_of(attempt: Attempt) -> dict[str, object]:
    return {
        "number": attempt.number,
        "request_id": attempt.request_id,
        "started_at": rfc3339(attempt.started_at),
        "duration": attempt.duration,
        "status": attempt.status,
        "error": attempt.summary if not attempt.succeeded else None,
    }
