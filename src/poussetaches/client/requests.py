"""Every request of the API, built once for all clients."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import msgspec

from poussetaches.client import results
from poussetaches.client.arguments import ArgumentError
from poussetaches.client.durations import Seconds
from poussetaches.client.fields import (
    DeclaredSchedule,
    Filter,
    QueueFields,
    ScheduleFields,
    TaskPatch,
)
from poussetaches.client.request_json import encode_request
from poussetaches.client.results import NewTask, ProgressReport, PushedTask, TaskInfo
from poussetaches.client.wire import (
    Answer,
    Call,
    Request,
    check,
    read_as,
    read_nothing,
)
from poussetaches.core.progress_report import ATTEMPT_TOKEN

T = TypeVar("T")

BULK_PATIENCE = 600.0  # seconds: a call for many goes through all that there are
LONGEST_POLL = 60.0  # seconds, as the server has it
LINES = "application/x-ndjson"

# Older servers do not read these: they take a declaration for a change, and a set as a whole.
_DECLARED = (("declared", "true"),)
_PARTIAL = (("partial", "true"),)

# Tasks


def push(task: NewTask, *, own_key: str | None) -> Request[PushedTask]:
    """Return the push of a task; ``own_key`` is its key when we made it."""

    def read(answer: Answer) -> PushedTask:
        check(answer)
        known = _reads_pushed(answer)
        if known.state == "pruned":
            return PushedTask(known.id, existing=True)
        info = _reads_task(answer)
        # Our own key cannot stand for anything but this push, made before its answer got lost.
        existing = "poussetaches-existing" in answer.headers
        existing = existing and (own_key is None or info.key != own_key)
        return PushedTask(info.id, existing, info)

    return Request(Call("POST", "/v1/tasks", body=line_of(task)), read)


def push_lines(lines: Sequence[bytes], may_exist: Sequence[bool]) -> Request[list[PushedTask]]:
    """Return the push of many tasks, and which of them others may have pushed before."""

    def read(answer: Answer) -> list[PushedTask]:
        found = _reads_batch(answer)
        existing = {place for place in found.existing if may_exist[place]}
        return [PushedTask(id, place in existing) for place, id in enumerate(found.ids)]

    call = Call("POST", "/v1/tasks/batch", body=b"\n".join(lines), content_type=LINES)
    return Request(call, read)


def line_of(task: NewTask) -> bytes:
    """Return a push as the server reads it."""
    fields: dict[str, object] = {
        name: value
        for name in NewTask.__struct_fields__
        if (value := getattr(task, name)) is not None
    }
    body = fields.pop("body", None)
    if isinstance(body, bytes):
        fields["body_base64"] = base64.b64encode(body).decode()
    return encode_request(fields)


def task(id: str, *, wait: float | None = None) -> Request[TaskInfo]:
    query = () if wait is None else (("wait", f"{wait:.3f}"),)
    call = Call("GET", _path("/v1/tasks", id), query)
    return Request(call, _reads_task, patience=(wait or 0.0) + _slack(wait))


def tasks(filter: Filter, *, limit: int, cursor: str | None) -> Request[results.TaskPage]:
    query = [*_query(filter), ("limit", str(limit))]
    if cursor is not None:
        query.append(("cursor", cursor))
    return Request(Call("GET", "/v1/tasks", tuple(query)), read_as(results.TaskPage))


def failures(state: Literal["dead", "failing"]) -> Request[Sequence[results.FailureGroup]]:
    call = Call("GET", "/v1/failures", (("state", state),))
    return Request(call, lambda answer: _reads_failures(answer).groups)


def change(id: str, verb: str, patch: TaskPatch | None = None) -> Request[TaskInfo]:
    """Return the ``run``, ``requeue`` or ``cancel`` of a task."""
    body = b"" if patch is None else encode_request(patch)
    return Request(Call("POST", _path("/v1/tasks", id, verb), body=body), _reads_task)


def edit(id: str, patch: TaskPatch) -> Request[TaskInfo]:
    call = Call("PATCH", _path("/v1/tasks", id), body=encode_request(patch))
    return Request(call, _reads_task)


def delete(id: str) -> Request[None]:
    return Request(Call("DELETE", _path("/v1/tasks", id)), read_nothing)


def progress(id: str, token: str, report: ProgressReport) -> Request[None]:
    """Return the report of an attempt's progress, authorised by the attempt's own token."""
    body = encode_request({"done": report.done, "total": report.total, "note": report.note})
    headers = ((ATTEMPT_TOKEN, token),)
    call = Call("POST", _path("/v1/tasks", id, "progress"), body=body, headers=headers)
    return Request(call, read_nothing)


def change_many(
    verb: str,
    filter: Filter,
    *,
    all: bool,
    dry_run: bool,
    set: TaskPatch | None = None,
    spread: Seconds | None = None,
) -> Request[results.BulkResult]:
    """Return the ``run``, ``requeue``, ``cancel`` or ``delete`` of what a filter selects."""
    document: dict[str, object] = {"filter": filter, "all": all, "dry_run": dry_run}
    if set is not None:
        document["set"] = set
    if spread is not None:
        document["spread"] = spread
    call = Call("POST", f"/v1/tasks/{verb}", body=encode_request(document))
    return Request(call, read_as(results.BulkResult), patience=BULK_PATIENCE)


# Queues


def queues() -> Request[Sequence[results.QueueInfo]]:
    return Request(Call("GET", "/v1/queues"), lambda answer: _reads_queues(answer).queues)


def queue(name: str) -> Request[results.QueueInfo]:
    return Request(Call("GET", _path("/v1/queues", name)), _reads_queue)


def put_queue(name: str, settings: QueueFields) -> Request[results.QueueInfo]:
    call = Call("PUT", _path("/v1/queues", name), body=encode_request(settings))
    return Request(call, _reads_queue)


def edit_queue(name: str, settings: QueueFields) -> Request[results.QueueInfo]:
    call = Call("PATCH", _path("/v1/queues", name), body=encode_request(settings))
    return Request(call, _reads_queue)


def declare_queue(name: str, settings: QueueFields) -> Request[results.QueueInfo]:
    call = Call("PATCH", _path("/v1/queues", name), _DECLARED, encode_request(settings))
    return Request(call, _reads_queue)


def delete_queue(name: str) -> Request[None]:
    call = Call("DELETE", _path("/v1/queues", name))
    return Request(call, read_nothing, patience=BULK_PATIENCE)


def set_queue_paused(name: str, verb: Literal["pause", "resume"]) -> Request[results.QueueInfo]:
    return Request(Call("POST", _path("/v1/queues", name, verb)), _reads_queue)


def purge_queue(name: str) -> Request[int]:
    call = Call("POST", _path("/v1/queues", name, "purge"))
    return Request(call, lambda answer: _reads_count(answer).count, patience=BULK_PATIENCE)


# Schedules


def schedules() -> Request[Sequence[results.ScheduleInfo]]:
    call = Call("GET", "/v1/schedules")
    return Request(call, lambda answer: _reads_schedules(answer).schedules)


def put_schedules(
    owner: str, version: int | None, schedules: Iterable[DeclaredSchedule | Mapping[str, Any]]
) -> Request[Sequence[results.ScheduleInfo]]:
    document = {"owner": owner, "version": version, "schedules": list(schedules)}
    call = Call("PUT", "/v1/schedules", body=encode_request(document))
    return Request(call, lambda answer: _reads_schedules(answer).schedules)


def declare_schedules(
    owner: str, version: int | None, schedules: Iterable[DeclaredSchedule | Mapping[str, Any]]
) -> Request[results.DeclaredSchedules]:
    document = {"owner": owner, "version": version, "schedules": list(schedules)}
    call = Call("PUT", "/v1/schedules", _PARTIAL, encode_request(document))
    return Request(call, _reads_declared)


def schedule(name: str) -> Request[results.ScheduleInfo]:
    return Request(Call("GET", _path("/v1/schedules", name)), _reads_schedule)


def put_schedule(name: str, fields: ScheduleFields) -> Request[results.ScheduleInfo]:
    call = Call("PUT", _path("/v1/schedules", name), body=encode_request(fields))
    return Request(call, _reads_schedule)


def edit_schedule(name: str, patch: Mapping[str, Any]) -> Request[results.ScheduleInfo]:
    call = Call("PATCH", _path("/v1/schedules", name), body=encode_request(patch))
    return Request(call, _reads_schedule)


def delete_schedule(name: str) -> Request[None]:
    return Request(Call("DELETE", _path("/v1/schedules", name)), read_nothing)


def run_schedule(name: str) -> Request[TaskInfo]:
    return Request(Call("POST", _path("/v1/schedules", name, "run")), _reads_task)


def runs(name: str, *, limit: int, cursor: str | None) -> Request[results.TaskPage]:
    query = (("limit", str(limit)), *(() if cursor is None else (("cursor", cursor),)))
    call = Call("GET", _path("/v1/schedules", name, "runs"), query)
    return Request(call, read_as(results.TaskPage))


def set_schedule_paused(
    name: str, verb: Literal["pause", "resume"]
) -> Request[results.ScheduleInfo]:
    return Request(Call("POST", _path("/v1/schedules", name, verb)), _reads_schedule)


def preview(cron: str, timezone: str, count: int) -> Request[Sequence[results.Occurrence]]:
    document = {"cron": cron, "timezone": timezone, "count": count}
    call = Call("POST", "/v1/schedules/preview", body=encode_request(document))
    return Request(call, lambda answer: _reads_preview(answer).next_runs)


# Operations


def set_paused(verb: Literal["pause", "resume"]) -> Request[bool]:
    return Request(Call("POST", f"/v1/{verb}"), lambda answer: _reads_pause(answer).paused)


def stats(minutes: int, queue: str | None) -> Request[results.StatsInfo]:
    query = [("minutes", str(minutes))]
    if queue is not None:
        query.append(("queue", queue))
    return Request(Call("GET", "/v1/stats", tuple(query)), read_as(results.StatsInfo))


def events(queue: str | None, last_event_id: str | None) -> Call:
    """Return the call that begins a stream of events."""
    query = () if queue is None else (("queue", queue),)
    headers = () if last_event_id is None else (("Last-Event-ID", last_event_id),)
    return Call("GET", "/v1/events", query, headers=headers)


class _Identity(msgspec.Struct, frozen=True):
    id: str
    state: str


_reads_pushed = read_as(_Identity)
_reads_task = read_as(TaskInfo)
_reads_batch = read_as(results.BatchResult)
_reads_failures = read_as(results.FailureList)
_reads_queue = read_as(results.QueueInfo)
_reads_queues = read_as(results.QueueList)
_reads_count = read_as(results.CountResult)
_reads_schedule = read_as(results.ScheduleInfo)
_reads_schedules = read_as(results.ScheduleList)
_reads_declared = read_as(results.DeclaredSchedules)
_reads_preview = read_as(results.Preview)
_reads_pause = read_as(results.PauseResult)


def _path(*parts: str) -> str:
    first, *others = parts
    for part in others:
        check_name_or_id(part)
    return "/".join([first, *(quote(part, safe="") for part in others)])


def check_name_or_id(given: object) -> None:
    """Refuse what cannot be an id of a task, or the name of a queue or a schedule.

    Raises:
        ArgumentError: it is not a string, or it is empty.
    """
    if not isinstance(given, str) or not given:
        raise ArgumentError("", f"{given!r} is not an id or a name; give a string")


def _slack(wait: float | None) -> float:
    """Return the seconds that the answer to a long poll may be late."""
    return 0.0 if wait is None else 10.0


def _query(filter: Filter) -> list[tuple[str, str]]:
    query: list[tuple[str, str]] = []
    for name, value in filter.items():
        if name == "label" and not isinstance(value, str) and isinstance(value, Sequence):
            query += [(name, str(label)) for label in value]
        elif value is not None:
            query.append((name, _written(value)))
    return query


def _written(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value)
    return ",".join(map(str, value))
