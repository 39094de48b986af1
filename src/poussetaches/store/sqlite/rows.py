"""Conversion between values and rows: tasks, attempts, schedules, queues and statistics."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import compress
from operator import attrgetter, is_not
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, astuple

from poussetaches.core import json_storage
from poussetaches.core.merge_patch import merged
from poussetaches.core.moment import Moment
from poussetaches.core.progress_report import Progress
from poussetaches.core.queue import OVERRIDES, Declarer, Lane, Queue, QueueOverrides
from poussetaches.core.retry import RETRY, StatusRule
from poussetaches.core.schedule import Definition, Misfire, Overlap, Schedule, check_expression
from poussetaches.core.target import check_stored_url
from poussetaches.core.task import Attempt, BodyKind, DeliveryForm, Reason, Task, TaskState
from poussetaches.store.minute_row import MinuteRow

# The end of an attempt writes only these columns, and so does not rewrite the body. If the task
# waits for a retry, it writes only the second group, and so updates few indexes.
_STATE = ("state", "reason", "ended_at", "forced", "cancelled")
_PROGRESS = ("run_at", "attempt_count", "attempt_total", "last_status", "last_error")
_LARGE = ("headers", "body")
# In the order of the parameters of ``Task``: ``task_from_row`` passes values by position.
_FIELDS = tuple(name for name in Task.__struct_fields__ if name != "unknown")
# Passing thirty values to SQLite takes longer than inserting a row of them.
_MINIMAL = (
    "id", "created_at", "run_at", "due_at", "queue", "priority", "delivery", "method", "url",
    "body_kind", "headers", "body",
)  # fmt: skip
# For fields whose name is an SQL keyword, or was different earlier.
_COLUMN_NAMES = {"unique": "unique_value", "delivery": "envelope"}


def _columns(fields: Iterable[str]) -> str:
    return ", ".join(_COLUMN_NAMES.get(name, name) for name in fields)


def _light(field: str) -> str:
    return "NULL" if field in _LARGE else field


ATTEMPT_COLUMNS = (
    "round, number, request_id, started_at, duration, succeeded, status, error, "
    "response_truncated, key_sent, progress, response_body, cause"
)
COLUMNS = {
    "task": _columns(_FIELDS),
    "minimal": _columns(_MINIMAL),
    "light": _columns(map(_light, _FIELDS)),
    "progress": _columns(_PROGRESS),
    "moved": _columns((*_STATE, *_PROGRESS)),
    "attempt": ATTEMPT_COLUMNS,
    "schedule": _columns(Schedule.__struct_fields__),
    "minute": _columns(MinuteRow.__struct_fields__),
}

Row = Sequence[Any]

_DECLARER = "declarer"  # the member of a declaration's JSON that is not a setting
_NO_KEY = 2  # in the column key_sent: there was no key; older versions wrote only 0 and 1
_DEFAULT_EXPECTED: tuple[StatusRule, ...] = ("2xx",)
_encode = json_storage.encode
_decode_texts = msgspec.json.Decoder(dict[str, str]).decode
_decode_expected = msgspec.json.Decoder(tuple[StatusRule, ...]).decode
_decode_progress = partial(json_storage.decode, msgspec.json.Decoder(Progress))
_decode_retry = partial(json_storage.decode, RETRY)
_decode_overrides = partial(json_storage.decode, OVERRIDES)
_decode_task = partial(json_storage.decode, msgspec.json.Decoder(Task))
_decode_definition = partial(json_storage.decode, msgspec.json.Decoder(Definition))


class UnreadableRow(Exception):
    """The row has invalid values."""


class _Form(NamedTuple):
    """Writes the values of a field to its column, and reads them."""

    write: Callable[[Any], object]
    read: Callable[[Any], Any]


def _as_stored(value: object) -> object:
    return value


_DELIVERY_NUMBERS = {DeliveryForm.PLAIN: 0, DeliveryForm.ENVELOPE: 1}
_DELIVERY_FORMS = {number: form for form, number in _DELIVERY_NUMBERS.items()}
_AS_BOOL = _Form(_as_stored, bool)
_AS_TEXTS = _Form(lambda texts: _encode(texts).decode() if texts else None, _decode_texts)
_BODY_KINDS = {kind: kind.value for kind in BodyKind}  # reading a member's value is slow
_REASONS = {reason: reason.value for reason in Reason}
# A running task is waiting on disk.
_STATES = {state: state.value for state in TaskState} | {TaskState.RUNNING: "waiting"}
# NULL is the default of a field. Fields that are not here are stored as they are.
_FORMS = {
    "state": _Form(_STATES.__getitem__, cache(TaskState)),
    "reason": _Form(_REASONS.get, cache(Reason)),
    "forced": _AS_BOOL,
    "cancelled": _AS_BOOL,
    "labels": _AS_TEXTS,
    "delivery": _Form(_DELIVERY_NUMBERS.__getitem__, _DELIVERY_FORMS.__getitem__),
    "expected": _Form(
        lambda rules: None if rules == _DEFAULT_EXPECTED else _encode(rules).decode(),
        _decode_expected,
    ),
    "retry": _Form(
        lambda retry: None if retry is None else _encode(retry).decode(), _decode_retry
    ),
    "body_kind": _Form(_BODY_KINDS.get, cache(BodyKind)),
    "headers": _AS_TEXTS,
    "body": _Form(lambda body: body or None, bytes),
}


def _values_of(fields: Sequence[str]) -> Callable[[Task], tuple[object, ...]]:
    """Return a function that returns the values of a task's columns."""
    get = attrgetter(*fields)
    writes = [
        (fields.index(name), form.write)
        for name, form in _FORMS.items()
        if name in fields and form.write is not _as_stored
    ]

    def values(task: Task) -> tuple[object, ...]:
        found = list(get(task))
        for place, write in writes:
            found[place] = write(found[place])
        return tuple(found)

    return values


task_values = _values_of(_FIELDS)
state_values = _values_of(_STATE)  # changed by ends, requeues and runs
progress_values = attrgetter(*_PROGRESS)  # changed by each failed attempt

_other_values = attrgetter(*(name for name in _FIELDS if name not in _MINIMAL))
_NEVER = Moment(0)
_DEFAULTS = Task(id="", url="", created_at=_NEVER, run_at=_NEVER, due_at=_NEVER)
_OTHER_DEFAULTS = _other_values(_DEFAULTS)
# The index of a column, how its value is read, and the value that NULL stands for.
_READS = [
    (index, _FORMS[name].read if name in _FORMS else _as_stored, getattr(_DEFAULTS, name))
    for index, name in enumerate(_FIELDS)
    if name in _FORMS or getattr(_DEFAULTS, name) is not None
]
_WIDTH = len(_FIELDS)
_URL = _FIELDS.index("url")


def is_minimal(task: Task) -> bool:
    """Return whether a task is new and sets only what most pushes set."""
    return bool(_other_values(task) == _OTHER_DEFAULTS)


def minimal_values(task: Task) -> tuple[object, ...]:
    """Return the values of the columns in which minimal tasks differ.

    They are listed here because that is faster, and most pushes are minimal.
    """
    return (
        task.id,
        task.created_at,
        task.run_at,
        task.due_at,
        task.queue,
        task.priority,
        _DELIVERY_NUMBERS[task.delivery],
        task.method,
        task.url,
        None if task.body_kind is None else _BODY_KINDS[task.body_kind],
        _encode(task.headers).decode() if task.headers else None,
        task.body or None,
    )


# By field: its column and how a value is written; None for fields without a column.
_FORMS_OF_COLUMNS = tuple(
    (_COLUMN_NAMES.get(name, name), _FORMS[name].write if name in _FORMS else _as_stored)
    if name in _FIELDS
    else None
    for name in Task.__struct_fields__
)
_INDEXES = range(len(_FORMS_OF_COLUMNS))


def differences(old: Task, new: Task) -> dict[str, object]:
    """Return the columns in which two versions of a task differ, with the values of the new."""
    found: dict[str, object] = {}
    before, after = astuple(old), astuple(new)
    # Usually, an unchanged field is the same object in both versions.
    for index in compress(_INDEXES, map(is_not, before, after)):
        stored_as = _FORMS_OF_COLUMNS[index]
        if stored_as is not None and before[index] != after[index]:
            column, write = stored_as
            found[column] = write(after[index])
    return found


def task_from_row(row: Row) -> Task:
    """Return the task that a row holds.

    Raises:
        UnreadableRow: it holds none.
    """
    try:
        values = list(row[:_WIDTH])  # the row may have more columns behind those of the task
        for index, read, default in _READS:
            value = values[index]
            values[index] = default if value is None else read(value)
        check_stored_url(values[_URL])
        return Task(*values)
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
    values = asdict(schedule)
    values["task"] = _encode(schedule.task).decode()
    if schedule.declared is not None:
        values["declared"] = _encode(schedule.declared).decode()
    return tuple(values.values())


def schedule_from_row(row: Row) -> Schedule:
    """Return the schedule that a row holds.

    Raises:
        UnreadableRow: it holds none.
    """
    try:
        values = dict(zip(Schedule.__struct_fields__, row, strict=True))
        check_expression(values["cron"], values["timezone"])
        values["task"] = _decode_task(values["task"])
        check_stored_url(values["task"].url)
        values["misfire"] = Misfire(values["misfire"])
        values["overlap"] = Overlap(values["overlap"])
        values["paused"] = bool(values["paused"])
        if values["declared"] is not None:
            values["declared"] = _decode_definition(values["declared"])
        return Schedule(**values)
    except MemoryError:  # not the row's fault
        raise
    except Exception as exc:
        raise UnreadableRow(f"{type(exc).__name__}: {exc}") from exc


def queue_values(queue: Queue) -> tuple[object, ...]:
    """Return the column values of a queue."""
    settings = None
    if queue.overrides != QueueOverrides():
        settings = _encode(queue.overrides).decode()
    declared = None if queue.declared is None else _encode_declaration(queue)
    return (queue.name, settings, declared, queue.configured, queue.paused)


def _encode_declaration(queue: Queue) -> str:
    """Return a queue's declaration as JSON, with its declarer among the settings."""
    text = _encode(queue.declared)
    if queue.declarer is not None:
        text = merged(text, _encode({_DECLARER: queue.declarer}))
    return text.decode()


def _decode_declaration(text: bytes) -> tuple[QueueOverrides, Declarer | None]:
    declared = _decode_overrides(text)
    if not isinstance(declared.unknown, Mapping) or _DECLARER not in declared.unknown:
        return declared, None
    unknown = dict(declared.unknown)
    declarer = msgspec.json.decode(unknown.pop(_DECLARER), type=Declarer)
    return msgspec.structs.replace(declared, unknown=unknown or UNSET), declarer


def text_of(raw: bytes) -> str:
    """Return a text that was read as bytes; replace bytes that are not UTF-8."""
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
        declaration, declarer = _decode_declaration(declared) if declared else (None, None)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise UnreadableRow(f"{type(exc).__name__}: {exc}") from exc
    return Queue(
        name=name,
        overrides=overrides,
        declared=declaration,
        declarer=declarer,
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


def as_json(row: sqlite3.Row) -> str:
    """Return a whole row as JSON, with blobs in hex."""
    return _encode(
        {
            key: row[key].hex() if isinstance(row[key], bytes) else row[key]
            for key in row.keys()  # noqa: SIM118 - a Row iterates over its values
        }
    ).decode()
