"""How values stand in rows: tasks, attempts and schedules, both ways."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.retry import StatusRule
from poussetaches.core.schedule import Schedule, check_expression
from poussetaches.core.target import parse_target
from poussetaches.core.task import Attempt, Reason, Task, TaskState

# The order of these columns is the order of the functions below.
TASK_COLUMNS = (
    "id, queue, state, reason, priority, run_at, due_at, created_at, expires_at, ended_at, round, "
    "attempt_count, attempt_total, last_status, last_error, schedule, envelope, method, url, "
    "headers, expected, timeout, body"
)
ATTEMPT_COLUMNS = (
    "round, number, request_id, started_at, duration, succeeded, status, error, "
    "response_truncated, key_sent, response_body"
)
SCHEDULE_COLUMNS = (
    "name, owner, cron, timezone, task, created_at, anchor_at, next_run_at, last_fired_at, "
    "last_task_id"
)

Row = Sequence[Any]

_DEFAULT_EXPECTED: tuple[StatusRule, ...] = ("2xx",)
_encode = msgspec.json.encode
_decode_headers = msgspec.json.Decoder(dict[str, str]).decode
_decode_expected = msgspec.json.Decoder(tuple[StatusRule, ...]).decode
_decode_task = msgspec.json.Decoder(Task).decode


class UnreadableRow(Exception):
    """A row that does not hold what it should."""


def task_values(task: Task) -> tuple[object, ...]:
    """Return a task as the values of its columns. A running task is waiting on disk."""
    state = TaskState.WAITING if task.state is TaskState.RUNNING else task.state
    expected = None if task.expected == _DEFAULT_EXPECTED else _encode(task.expected).decode()
    return (
        task.id,
        task.queue,
        state.value,
        task.reason.value if task.reason else None,
        task.priority,
        task.run_at,
        task.due_at,
        task.created_at,
        task.expires_at,
        task.ended_at,
        task.round,
        task.attempt_count,
        task.attempt_total,
        task.last_status,
        task.last_error,
        task.schedule,
        task.envelope,
        task.method,
        task.url,
        _encode(task.headers).decode() if task.headers else None,
        expected,
        task.timeout,
        task.body,
    )


def task_from_row(row: Row) -> Task:
    """Return the task that a row holds.

    Raises:
        UnreadableRow: it holds none.
    """
    try:
        parse_target(row[18])
        return Task(
            id=row[0],
            queue=row[1],
            state=TaskState(row[2]),
            reason=Reason(row[3]) if row[3] else None,
            priority=row[4],
            run_at=row[5],
            due_at=row[6],
            created_at=row[7],
            expires_at=row[8],
            ended_at=row[9],
            round=row[10],
            attempt_count=row[11],
            attempt_total=row[12],
            last_status=row[13],
            last_error=row[14],
            schedule=row[15],
            envelope=bool(row[16]),
            method=row[17],
            url=row[18],
            headers=_decode_headers(row[19]) if row[19] else {},
            expected=_decode_expected(row[20]) if row[20] else _DEFAULT_EXPECTED,
            timeout=row[21],
            body=row[22] or b"",
        )
    except Exception as exc:
        raise UnreadableRow(f"{type(exc).__name__}: {exc}") from exc


def attempt_values(attempt: Attempt) -> tuple[object, ...]:
    """Return an attempt as the values of its columns."""
    return (
        attempt.round,
        attempt.number,
        attempt.request_id,
        attempt.started_at,
        attempt.duration,
        attempt.succeeded,
        attempt.status,
        attempt.error,
        attempt.response_truncated,
        attempt.key_sent,
        attempt.response_body or None,
    )


def attempt_from_row(row: Row) -> Attempt:
    """Return the attempt that a row holds."""
    return Attempt(
        round=row[0],
        number=row[1],
        request_id=row[2],
        started_at=Moment(row[3]),
        duration=row[4],
        succeeded=bool(row[5]),
        status=row[6],
        error=row[7],
        response_truncated=bool(row[8]),
        key_sent=bool(row[9]),
        response_body=row[10] or b"",
    )


def schedule_values(schedule: Schedule) -> tuple[object, ...]:
    """Return a schedule as the values of its columns."""
    return (
        schedule.name,
        schedule.owner,
        schedule.cron,
        schedule.timezone,
        _encode(schedule.task).decode(),
        schedule.created_at,
        schedule.anchor_at,
        schedule.next_run_at,
        schedule.last_fired_at,
        schedule.last_task_id,
    )


def schedule_from_row(row: Row) -> Schedule:
    """Return the schedule that a row holds.

    Raises:
        UnreadableRow: it holds none.
    """
    try:
        check_expression(row[2], row[3])
        template = _decode_task(row[4])
        parse_target(template.url)
        return Schedule(
            name=row[0],
            owner=row[1],
            cron=row[2],
            timezone=row[3],
            task=template,
            created_at=row[5],
            anchor_at=row[6],
            next_run_at=row[7],
            last_fired_at=row[8],
            last_task_id=row[9],
        )
    except Exception as exc:
        raise UnreadableRow(f"{type(exc).__name__}: {exc}") from exc


def as_json(row: sqlite3.Row) -> str:
    """Return a whole row as JSON, whatever it holds; blobs are in hex."""
    return _encode(
        {
            key: row[key].hex() if isinstance(row[key], bytes) else row[key]
            for key in row.keys()  # noqa: SIM118 - a Row iterates over its values
        }
    ).decode()
