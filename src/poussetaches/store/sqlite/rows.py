"""How values stand in rows: tasks, attempts, schedules and the rest, both ways."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from poussetaches.core import stored
from poussetaches.core.moment import Moment
from poussetaches.core.progress import Progress
from poussetaches.core.queue import OVERRIDES, Lane, Queue, QueueOverrides
from poussetaches.core.retry import RETRY, StatusRule
from poussetaches.core.schedule import Definition, Misfire, Overlap, Schedule, check_expression
from poussetaches.core.target import check_stored_url
from poussetaches.core.task import Attempt, BodyKind, Reason, Task, TaskState
from poussetaches.store.base import MinuteRow

# The order of these columns is the order of the functions below. What the end of an attempt
# changes is apart from what only an edit does: most writes need not touch the body. What it
# changes of a task that goes on waiting is apart, too: so most indexes need not be touched.
_FATE_COLUMNS = "state, reason, ended_at, forced, cancelled"
PROGRESS_COLUMNS = "run_at, attempt_count, attempt_total, last_status, last_error"
MOVED_COLUMNS = f"{_FATE_COLUMNS}, {PROGRESS_COLUMNS}"
_AMENDED_BUT_LARGE = (
    "queue, priority, due_at, expires_at, round, schedule, key, unique_value, labels, envelope, "
    "method, url, expected, timeout, retry, on_success, on_dead, body_kind"
)
AMENDED_COLUMNS = f"{_AMENDED_BUT_LARGE}, headers, body"
TASK_COLUMNS = f"id, created_at, {MOVED_COLUMNS}, {AMENDED_COLUMNS}"
LIGHT_COLUMNS = f"id, created_at, {MOVED_COLUMNS}, {_AMENDED_BUT_LARGE}, NULL, NULL"
# SQLite takes longer to be handed thirty values than to insert a row of them.
PLAIN_COLUMNS = (
    "id, created_at, run_at, due_at, queue, priority, envelope, method, url, body_kind, headers, "
    "body"
)
ATTEMPT_COLUMNS = (
    "round, number, request_id, started_at, duration, succeeded, status, error, "
    "response_truncated, key_sent, progress, response_body, cause"
)
SCHEDULE_COLUMNS = (
    "name, owner, cron, timezone, task, created_at, anchor_at, next_run_at, misfire, "
    "misfire_grace, overlap, paused, last_fired_at, last_task_id, declared"
)
MINUTE_COLUMNS = (
    "queue, minute, pushed, started, succeeded, failed, died, lateness_p50, lateness_p95, "
    "duration_p50, duration_p95"
)
COLUMNS = {
    "task": TASK_COLUMNS,
    "plain": PLAIN_COLUMNS,
    "light": LIGHT_COLUMNS,
    "progress": PROGRESS_COLUMNS,
    "moved": MOVED_COLUMNS,
    "amended": AMENDED_COLUMNS,
    "attempt": ATTEMPT_COLUMNS,
    "schedule": SCHEDULE_COLUMNS,
    "minute": MINUTE_COLUMNS,
}

Row = Sequence[Any]

_NO_KEY = 2  # in the column key_sent: there was no key; older versions wrote only 0 and 1
_DEFAULT_EXPECTED: tuple[StatusRule, ...] = ("2xx",)
_BODY_KINDS = {kind: kind.value for kind in BodyKind}  # a member is slow to give its value
_encode = stored.encode
_decode_texts = msgspec.json.Decoder(dict[str, str]).decode
_decode_expected = msgspec.json.Decoder(tuple[StatusRule, ...]).decode
_decode_progress = partial(stored.decode, msgspec.json.Decoder(Progress))
_decode_retry = partial(stored.decode, RETRY)
_decode_overrides = partial(stored.decode, OVERRIDES)
_decode_task = partial(stored.decode, msgspec.json.Decoder(Task))
_decode_definition = partial(stored.decode, msgspec.json.Decoder(Definition))


class UnreadableRow(Exception):
    """A row that does not hold what it should."""


def task_values(task: Task) -> tuple[object, ...]:
    """Return a task as the values of its columns."""
    return (task.id, task.created_at, *moved_values(task), *amended_values(task))


def is_plain(task: Task) -> bool:
    """Tell whether a task is new and has nothing set but what most pushes set."""
    return (
        task.state is TaskState.WAITING
        and task.attempt_total == 0
        and task.round == 1
        and task.expected == _DEFAULT_EXPECTED
        and not (task.forced or task.cancelled or task.labels)
        and task.last_error is None
        and task.expires_at is None
        and task.schedule is None
        and task.key is None
        and task.unique is None
        and task.timeout is None
        and task.retry is None
        and task.on_success is None
        and task.on_dead is None
    )


def plain_values(task: Task) -> tuple[object, ...]:
    """Return a plain task as the values of the columns that differ between such."""
    return (
        task.id,
        task.created_at,
        task.run_at,
        task.due_at,
        task.queue,
        task.priority,
        task.envelope,
        task.method,
        task.url,
        None if task.body_kind is None else _BODY_KINDS[task.body_kind],
        _encode(task.headers).decode() if task.headers else None,
        task.body or None,
    )


def moved_values(task: Task) -> tuple[object, ...]:
    """Return what the end of an attempt changes."""
    return (*fate_values(task), *progress_values(task))


def fate_values(task: Task) -> tuple[object, ...]:
    """Return what changes when a task ends, begins anew or is told to run now."""
    # A running task is waiting on disk.
    state = TaskState.WAITING if task.state is TaskState.RUNNING else task.state
    reason = None if task.reason is None else task.reason.value
    return (state.value, reason, task.ended_at, task.forced, task.cancelled)


def progress_values(task: Task) -> tuple[object, ...]:
    """Return what each failed attempt changes."""
    return (
        task.run_at,
        task.attempt_count,
        task.attempt_total,
        task.last_status,
        task.last_error,
    )


def amended_values(task: Task) -> tuple[object, ...]:
    """Return what else of a task an edit may change."""
    return (
        task.queue,
        task.priority,
        task.due_at,
        task.expires_at,
        task.round,
        task.schedule,
        task.key,
        task.unique,
        _encode(task.labels).decode() if task.labels else None,
        task.envelope,
        task.method,
        task.url,
        None if task.expected == _DEFAULT_EXPECTED else _encode(task.expected).decode(),
        task.timeout,
        None if task.retry is None else _encode(task.retry).decode(),
        task.on_success,
        task.on_dead,
        None if task.body_kind is None else task.body_kind.value,
        _encode(task.headers).decode() if task.headers else None,
        task.body or None,
    )


def task_from_row(row: Row) -> Task:
    """Return the task that a row holds.

    Raises:
        UnreadableRow: it holds none.
    """
    try:
        check_stored_url(row[23])
        return Task(
            id=row[0],
            created_at=row[1],
            state=TaskState(row[2]),
            reason=Reason(row[3]) if row[3] else None,
            ended_at=row[4],
            forced=bool(row[5]),
            cancelled=bool(row[6]),
            run_at=row[7],
            attempt_count=row[8],
            attempt_total=row[9],
            last_status=row[10],
            last_error=row[11],
            queue=row[12],
            priority=row[13],
            due_at=row[14],
            expires_at=row[15],
            round=row[16],
            schedule=row[17],
            key=row[18],
            unique=row[19],
            labels=_decode_texts(row[20]) if row[20] else {},
            envelope=bool(row[21]),
            method=row[22],
            url=row[23],
            expected=_decode_expected(row[24]) if row[24] else _DEFAULT_EXPECTED,
            timeout=row[25],
            retry=_decode_retry(row[26]) if row[26] else None,
            on_success=row[27],
            on_dead=row[28],
            body_kind=BodyKind(row[29]) if row[29] else None,
            headers=_decode_texts(row[30]) if row[30] else {},
            body=row[31] or b"",
        )
    except MemoryError:  # not the row's fault
        raise
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
        _NO_KEY if attempt.key_sent is None else attempt.key_sent,
        None if attempt.progress is None else _encode(attempt.progress).decode(),
        attempt.response_body or None,
        attempt.cause,
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
        key_sent=None if row[9] == _NO_KEY else bool(row[9]),
        progress=_decode_progress(row[10]) if row[10] else None,
        response_body=row[11] or b"",
        cause=row[12],
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
        schedule.misfire.value,
        schedule.misfire_grace,
        schedule.overlap.value,
        schedule.paused,
        schedule.last_fired_at,
        schedule.last_task_id,
        None if schedule.declared is None else _encode(schedule.declared).decode(),
    )


def schedule_from_row(row: Row) -> Schedule:
    """Return the schedule that a row holds.

    Raises:
        UnreadableRow: it holds none.
    """
    try:
        check_expression(row[2], row[3])
        template = _decode_task(row[4])
        check_stored_url(template.url)
        return Schedule(
            name=row[0],
            owner=row[1],
            cron=row[2],
            timezone=row[3],
            task=template,
            created_at=row[5],
            anchor_at=row[6],
            next_run_at=row[7],
            misfire=Misfire(row[8]),
            misfire_grace=row[9],
            overlap=Overlap(row[10]),
            paused=bool(row[11]),
            last_fired_at=row[12],
            last_task_id=row[13],
            declared=None if row[14] is None else _decode_definition(row[14]),
        )
    except MemoryError:  # not the row's fault
        raise
    except Exception as exc:
        raise UnreadableRow(f"{type(exc).__name__}: {exc}") from exc


def queue_values(queue: Queue) -> tuple[object, ...]:
    """Return the column values of a queue."""
    settings = None
    if queue.overrides != QueueOverrides():
        settings = _encode(queue.overrides).decode()
    declared = None if queue.declared is None else _encode(queue.declared).decode()
    return (queue.name, settings, declared, queue.configured, queue.paused)


def text_of(raw: bytes) -> str:
    """Return a text that was read as bytes, with a replacement for what is not UTF-8."""
    return raw.decode("utf-8", "replace")


def text_or_bytes(raw: bytes) -> str | bytes:
    """Return a text that was read as bytes, unchanged if it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def queue_from_row(row: Row) -> Queue:
    """Return the queue that a row holds; its texts come as bytes.

    Raises:
        UnreadableRow: its name or its settings cannot be read.
    """
    raw_name, settings, declared, configured, paused = row
    try:
        name = str(raw_name, "utf-8")
        overrides = _decode_overrides(settings) if settings else QueueOverrides()
        declaration = _decode_overrides(declared) if declared else None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise UnreadableRow(f"{type(exc).__name__}: {exc}") from exc
    return Queue(
        name=name,
        overrides=overrides,
        declared=declaration,
        configured=bool(configured),
        paused=bool(paused),
    )


def lane_from_row(row: Row) -> tuple[int, Lane]:
    """Return a lane with its number.

    Raises:
        UnreadableRow: its queue or origin is not UTF-8.
    """
    number, queue, origin, forced = row
    try:
        return number, Lane(str(queue, "utf-8"), str(origin, "utf-8"), bool(forced))
    except UnicodeDecodeError as exc:
        raise UnreadableRow(f"{type(exc).__name__}: {exc}") from exc


def minute_values(row: MinuteRow) -> tuple[object, ...]:
    """Return what happened in a minute as the values of its columns."""
    counts = (row.pushed, row.started, row.succeeded, row.failed, row.died)
    spans = (row.lateness_p50, row.lateness_p95, row.duration_p50, row.duration_p95)
    return (row.queue, row.minute, *counts, *spans)


def minute_from_row(row: Row) -> MinuteRow:
    """Return what a row says of a minute."""
    return MinuteRow(
        queue=row[0],
        minute=row[1],
        pushed=row[2],
        started=row[3],
        succeeded=row[4],
        failed=row[5],
        died=row[6],
        lateness_p50=row[7],
        lateness_p95=row[8],
        duration_p50=row[9],
        duration_p95=row[10],
    )


def as_json(row: sqlite3.Row) -> str:
    """Return a whole row as JSON, whatever it holds; blobs are in hex."""
    return _encode(
        {
            key: row[key].hex() if isinstance(row[key], bytes) else row[key]
            for key in row.keys()  # noqa: SIM118 - a Row iterates over its values
        }
    ).decode()
