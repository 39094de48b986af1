"""Views: tasks and attempts in responses."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from poussetaches.core.headers import MASKED
from poussetaches.core.moment import Moment, rfc3339, seconds_between
from poussetaches.core.progress_report import Progress
from poussetaches.core.responses import AttemptResponse, ProgressResponse, WaitResponse
from poussetaches.core.retry import RetryFields, overrides_of
from poussetaches.core.task import Attempt, BodyKind, DeliveryForm, Task
from poussetaches.core.task_fields import ShownTask, ShownTime
from poussetaches.core.wait_reason import WaitingFor, WaitReason
from poussetaches.engine.limits import Limit

SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})

_shown_fields = attrgetter(*ShownTask.__struct_fields__)
_CREATED_AT, _RUN_AT, _EXPIRES_AT, _ENDED_AT, _RETRY = (
    ShownTask.__struct_fields__.index(name)
    for name in ("created_at", "run_at", "expires_at", "ended_at", "retry")
)

# The range of RFC 3339. Times of imported tasks may be outside.
_FIRST = Moment(-62_135_596_800_000_000)
_LAST = Moment(253_402_300_799_999_999)


class WaitView(WaitResponse[ShownTime], kw_only=True, frozen=True):
    """A reason to wait, and the end of the wait if it is known. Lists omit ``detail``."""

    reason: WaitReason
    detail: str | UnsetType = UNSET
    count: int | UnsetType = UNSET


class ListedTask(ShownTask, kw_only=True, frozen=True):
    """A task in a list, without its body and headers."""

    waiting_for: list[WaitView] | UnsetType = UNSET


class TaskView(ListedTask, kw_only=True, frozen=True):
    """A task. Its body, if any, is in the form in which it was pushed."""

    headers: dict[str, str]
    json: msgspec.Raw | UnsetType = UNSET
    text: str | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET


_KEY_SENT: dict[bool | None, Literal["sent", "withheld"] | None] = {
    True: "sent",
    False: "withheld",
    None: None,
}


class ProgressView(ProgressResponse[ShownTime], kw_only=True, frozen=True):
    """A progress report of an attempt."""


class AttemptView(AttemptResponse[ShownTime], kw_only=True, frozen=True):
    """An attempt. ``duration`` is in seconds."""

    auth_key: Literal["sent", "withheld"] | None
    progress: ProgressView | None = None
    node: str | None = None


class TaskDetail(TaskView, kw_only=True, frozen=True):
    """A task with its attempts, what it waits for, and the progress of the running attempt."""

    attempts: list[AttemptView]
    progress: ProgressView | UnsetType = UNSET


class PrunedTask(msgspec.Struct, kw_only=True, frozen=True):
    """A pruned task whose key has not expired."""

    id: str
    state: Literal["pruned"] = "pruned"


# The response to a push whose task exists. The schema is written out, because msgspec supports
# unions of structs only with a tag.
TaskOrPruned = Annotated[
    Any,
    Meta(
        extra_json_schema={
            "anyOf": [
                {"$ref": "#/components/schemas/TaskView"},
                {
                    "type": "object",
                    "properties": {"id": {"type": "string"}, "state": {"const": "pruned"}},
                    "required": ["id", "state"],
                },
            ]
        }
    ),
]


def list_views(tasks: Iterable[Task], limits: Iterable[list[Limit] | None]) -> list[ListedTask]:
    """Return the views of a list of tasks, with the limits that each waits for, if any."""
    last: list[Limit] | None = None
    waits: list[WaitView] | UnsetType = UNSET
    views = []
    for task, reached in zip(tasks, limits, strict=True):
        values = _shown_values(task)
        if reached is not last:  # tasks with the same limits share a list
            last, waits = reached, UNSET
            if reached is not None:
                waits = _short_waits(reached, task, values[_RUN_AT])
        views.append(ListedTask(*values, waiting_for=waits))
    return views


def task_view(task: Task, *, secret_headers: frozenset[str]) -> TaskView:
    """Return the view of a task; ``secret_headers`` are lower-case names."""
    return TaskView(*_shown_values(task), **_body_fields(task, secret_headers))


def task_detail(
    task: Task,
    attempts: Iterable[Attempt],
    waiting_for: Iterable[WaitingFor] | None,
    progress: Progress | None,
    *,
    secret_headers: frozenset[str],
) -> TaskDetail:
    """Return the view of a task with its attempts and, if not None, its waits and progress."""
    extra = _body_fields(task, secret_headers)
    extra["attempts"] = [attempt_view(attempt) for attempt in attempts]
    if waiting_for is not None:
        extra["waiting_for"] = [wait_view(reason) for reason in waiting_for]
    if progress is not None:
        extra["progress"] = progress_view(progress)
    return TaskDetail(*_shown_values(task), **extra)


def attempt_view(attempt: Attempt) -> AttemptView:
    return AttemptView(
        round=attempt.round,
        number=attempt.number,
        request_id=attempt.request_id,
        started_at=shown_time(attempt.started_at),
        duration=attempt.duration,
        status=attempt.status,
        error=attempt.error,
        cause=attempt.cause,
        response_body=response_text(attempt),
        response_truncated=attempt.response_truncated,
        auth_key=_KEY_SENT[attempt.key_sent],
        progress=None if attempt.progress is None else progress_view(attempt.progress),
    )


def age(since: Moment | None, *, now: Moment) -> float | None:
    """Return the seconds since a moment, 0 if it is in the future; None for None."""
    return None if since is None else max(0.0, seconds_between(since, now))


def progress_view(progress: Progress) -> ProgressView:
    return ProgressView(
        done=progress.done, total=progress.total, note=progress.note, at=shown_time(progress.at)
    )


def wait_view(waiting: WaitingFor) -> WaitView:
    return WaitView(
        reason=waiting.reason,
        until=shown_time_or_none(waiting.until),
        detail=waiting.detail,
        count=UNSET if waiting.count is None else waiting.count,
    )


def _short_waits(limits: Iterable[Limit], task: Task, run_at: ShownTime) -> list[WaitView]:
    return [
        WaitView(
            reason=limit.reason,
            until=run_at if limit.until == task.run_at else shown_time_or_none(limit.until),
        )
        for limit in limits
    ]


def masked(headers: dict[str, str], *, secret_headers: frozenset[str]) -> dict[str, str]:
    """Return headers with masked values of the secret ones."""
    return {
        name: MASKED if name.lower() in secret_headers else value
        for name, value in headers.items()
    }


def unmasked(headers: dict[str, str], stored: dict[str, str]) -> dict[str, str]:
    """Return headers with masked values replaced by the stored ones."""
    values = {name.lower(): value for name, value in stored.items()}
    return {
        name: values.get(name.lower(), value) if value == MASKED else value
        for name, value in headers.items()
    }


def response_text(attempt: Attempt) -> str:
    """Return the response to an attempt as text, without a truncated last character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(attempt.response_body, final=not attempt.response_truncated)


def shown_time(moment: Moment) -> str:
    """Return a moment as RFC 3339 text, clamped to the years 1 to 9999."""
    try:
        return rfc3339(moment)
    except OverflowError:
        return rfc3339(_FIRST if moment < _FIRST else _LAST)


def shown_time_or_none(moment: Moment | None) -> str | None:
    return None if moment is None else shown_time(moment)


def _shown_values(task: Task) -> list[Any]:
    """Return the values of the fields of ``ShownTask``."""
    values = list(_shown_fields(task))
    created_at = values[_CREATED_AT] = shown_time(task.created_at)
    # Most tasks are due at once.
    is_immediate = task.run_at == task.created_at
    values[_RUN_AT] = created_at if is_immediate else shown_time(task.run_at)
    values[_EXPIRES_AT] = shown_time_or_none(task.expires_at)
    values[_ENDED_AT] = shown_time_or_none(task.ended_at)
    if task.retry is not None:
        values[_RETRY] = RetryFields(**overrides_of(task.retry))
    return values


def _body_fields(task: Task, secret_headers: frozenset[str]) -> dict[str, Any]:
    """Return a task's headers, and its body in the form in which it was pushed."""
    headers = masked(task.headers, secret_headers=secret_headers)
    if task.delivery is DeliveryForm.ENVELOPE or task.body_kind is BodyKind.BASE64:
        return {"headers": headers, "body_base64": base64.b64encode(task.body).decode()}
    if task.body_kind is BodyKind.JSON:
        return {"headers": headers, "json": msgspec.Raw(task.body)}
    if task.body_kind is BodyKind.TEXT:
        return {"headers": headers, "text": task.body.decode("utf-8", "replace")}
    return {"headers": headers}
