from __future__ import annotations

import msgspec
import pytest

from poussetaches.core.callback import callback_of
from poussetaches.core.queue import QueueOverrides
from poussetaches.core.task import NO_CALLBACK, BodyKind, Reason, Task, TaskState
from tests.factories import NOW, make_attempt, make_ended, make_task

DONE = "http://app.test/done"
DIED = "http://app.test/died"
QUEUE = QueueOverrides(on_success="http://queue.test/done", on_dead="http://queue.test/died")


def callback(task: Task, queue: QueueOverrides = QUEUE) -> Task | None:
    """Return the callback of a task after its last attempt."""
    return callback_of(task, make_attempt(2), queue, id="callback", now=NOW)


@pytest.mark.parametrize(
    ("state", "url"), [(TaskState.SUCCEEDED, DONE), (TaskState.DEAD, DIED)], ids=str
)
def test_end_is_told_to_the_url_that_the_task_names(state: TaskState, url: str) -> None:
    found = callback(make_ended("task", state, on_success=DONE, on_dead=DIED))

    assert found is not None
    assert (found.url, found.queue, found.method) == (url, "callbacks", "POST")
    assert (found.run_at, found.due_at, found.created_at) == (NOW, NOW, NOW)


def test_queue_is_asked_when_the_task_names_nobody() -> None:
    found = callback(make_ended("task", TaskState.DEAD))

    assert found is not None
    assert found.url == QUEUE.on_dead


def test_task_may_have_none_though_its_queue_has() -> None:
    assert callback(make_ended("task", TaskState.DEAD, on_dead=NO_CALLBACK)) is None


def test_nobody_is_told_when_nobody_asked() -> None:
    assert callback(make_ended("task", TaskState.DEAD), QueueOverrides()) is None


def test_task_that_goes_on_tells_nobody() -> None:
    assert callback(make_task(on_success=DONE, on_dead=DIED)) is None


def test_callback_has_no_callbacks_of_its_own() -> None:
    found = callback(make_ended("task", TaskState.DEAD))
    assert found is not None

    ended = msgspec.structs.replace(found, state=TaskState.DEAD, reason=Reason.EXHAUSTED)

    assert callback(ended) is None


def test_callback_says_how_it_ended_and_nothing_of_headers_and_body() -> None:
    task = make_ended(
        "task",
        TaskState.DEAD,
        labels={"user": "17"},
        attempt_count=2,
        headers={"Authorization": "Bearer x"},
        body=b"private",
    )

    found = callback(task)

    assert found is not None
    assert found.body_kind is BodyKind.JSON
    assert msgspec.json.decode(found.body) == {
        "id": "task",
        "queue": "default",
        "state": "dead",
        "reason": "exhausted",
        "labels": {"user": "17"},
        "url": task.url,
        "attempt_count": 2,
        "last_attempt": {
            "number": 2,
            "request_id": "request-2",
            "started_at": "2026-09-21T14:13:20.000000Z",
            "duration": 0.25,
            "status": 500,
            "error": "went wrong",
        },
    }


def test_task_that_ended_without_an_attempt_says_so() -> None:
    task = make_ended("task", TaskState.DEAD)

    found = callback_of(task, None, QUEUE, id="callback", now=NOW)

    assert found is not None
    assert msgspec.json.decode(found.body)["last_attempt"] is None
