"""The current task, in handlers and in log lines."""

from __future__ import annotations

import logging

import pytest

from poussetaches.client.current_task import (
    CurrentTask,
    NoCurrentTask,
    TaskLogFilter,
    current_task,
    running,
)


def make_current(id: str = "task-1", attempt: int = 2) -> CurrentTask:
    return CurrentTask(
        id=id,
        name="app.send",
        queue="mail",
        attempt=attempt,
        round=1,
        request_id="0123456789ab",
        deadline=None,
    )


def record_of(**extra: object) -> logging.LogRecord:
    logger = logging.getLogger("app")
    return logger.makeRecord("app", logging.INFO, "app.py", 1, "sent", (), None, extra=extra)


def test_there_is_no_current_task_outside() -> None:
    with pytest.raises(NoCurrentTask, match="No task is running here"):
        current_task()
    with pytest.raises(LookupError):
        current_task()


def test_outer_task_is_current_again_after_an_inner_one() -> None:
    outer, inner = make_current("outer"), make_current("inner")

    with running(outer):
        with pytest.raises(ValueError, match="inner"), running(inner):
            raise ValueError(current_task().id)

        assert current_task() is outer


def test_log_lines_name_the_task_the_attempt_and_the_request() -> None:
    formatter = logging.Formatter("%(task)s %(attempt)s %(request)s %(message)s")
    record = record_of()

    with running(make_current()):
        assert TaskLogFilter().filter(record)

    assert formatter.format(record) == "task-1 2 0123456789ab sent"


def test_log_lines_outside_of_tasks_have_dashes() -> None:
    record = record_of()

    TaskLogFilter().filter(record)

    assert [getattr(record, name) for name in ("task", "attempt", "request")] == ["-"] * 3


def test_log_line_keeps_what_it_says_itself() -> None:
    record = record_of(task="another")

    with running(make_current()):
        TaskLogFilter().filter(record)

    assert (getattr(record, "task"), getattr(record, "attempt")) == ("another", 2)  # noqa: B009
