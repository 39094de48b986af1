"""Views: how tasks and attempts are shown."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from poussetaches.core.headers import MASKED
from poussetaches.core.moment import Moment, rfc3339
from poussetaches.core.progress import Progress
from poussetaches.core.responses import AttemptResponse, ProgressResponse
from poussetaches.core.retry import RetryFields, overrides_of
from poussetaches.core.task import Attempt, BodyKind, DeliveryForm, Task
from poussetaches.core.task_fields import ShownTask, ShownTime
from poussetaches.core.waiting import WaitingFor, WaitReason
from poussetaches.engine.limits import Limit

SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})

V = TypeVar("V")

_shown_fields = attrgetter(*ShownTask.__struct_fields__)
_TIMES = ("created_at", "run_at", "expires_at", "ended_at")

# What RFC 3339 can write. Tasks taken over from elsewhere may lie outside.
_FIRST = Moment(-62_135_596_800_000_000)
_LAST = Moment(253_402_300_799_999_999)


class WaitView(msgspec.Struct, kw_only=True, frozen=True):
    """One of the reasons to wait, and until when, if that is known. Lists leave out ``detail``."""

    reason: WaitReason
    until: ShownTime | None
    detail: str | UnsetType = UNSET
    count: int | UnsetType = UNSET


class ListedTask(ShownTask, kw_only=True, frozen=True):
    """A task in a list: without its body and headers."""

    waiting_for: list[WaitView] | UnsetType = UNSET


class TaskView(ListedTask, kw_only=True, frozen=True):
    """A task; its body is shown in the form in which it was pushed, if it has one."""

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
    """The progress that a handler reported at ``at``."""


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
    """What is left of a task that is gone, while its key still stands for it."""

    id: str
    state: Literal["pruned"] = "pruned"


# What a push answers when another made the task before. A union of structs needs a tag, so
# that the schema is written out.
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
    """Return tasks as they are shown in a list, with the limits that each waits for, if any."""
    last: list[Limit] | None = None
    waits: list[WaitView] | UnsetType = UNSET
    found = []
    for task, reached in zip(tasks, limits, strict=True):
        run_at = shown(task.run_at)
        if reached is not last:  # tasks that wait for the same share a list
            last, waits = (
                reached,
                UNSET if reached is None else _short_waits(reached, task, run_at),
            )
        found.append(_shown_as(ListedTask, task, {"waiting_for": waits}, run_at=run_at))
    return found


def task_view(task: Task, *, secret_headers: frozenset[str]) -> TaskView:
    """Return a task as it is shown; ``secret_headers`` are lower-case names."""
    return _shown_as(TaskView, task, _content(task, secret_headers))


def task_detail(
    task: Task,
    attempts: Iterable[Attempt],
    waiting_for: Iterable[WaitingFor] | None,
    progress: Progress | None,
    *,
    secret_headers: frozenset[str],
) -> TaskDetail:
    """Return a task with its attempts, and with what is not None of the other two."""
    more = _content(task, secret_headers)
    more["attempts"] = [attempt_view(attempt) for attempt in attempts]
    if waiting_for is not None:
        more["waiting_for"] = [wait_view(one) for one in waiting_for]
    if progress is not None:
        more["progress"] = progress_view(progress)
    return _shown_as(TaskDetail, task, more)


def attempt_view(attempt: Attempt) -> AttemptView:
    """Return an attempt as it is shown."""
    return AttemptView(
        round=attempt.round,
        number=attempt.number,
        request_id=attempt.request_id,
        started_at=shown(attempt.started_at),
        duration=attempt.duration,
        status=attempt.status,
        error=attempt.error,
        cause=attempt.cause,
        response_body=response_text(attempt),
        response_truncated=attempt.response_truncated,
        auth_key=_KEY_SENT[attempt.key_sent],
        progress=None if attempt.progress is None else progress_view(attempt.progress),
    )


def progress_view(progress: Progress) -> ProgressView:
    """Return a report of progress as it is shown."""
    return ProgressView(
        done=progress.done, total=progress.total, note=progress.note, at=shown(progress.at)
    )


def wait_view(waiting: WaitingFor) -> WaitView:
    """Return what is waited for as it is shown."""
    return WaitView(
        reason=waiting.reason,
        until=shown_or_none(waiting.until),
        detail=waiting.detail,
        count=UNSET if waiting.count is None else waiting.count,
    )


def _short_waits(limits: Iterable[Limit], task: Task, run_at: ShownTime) -> list[WaitView]:
    return [
        WaitView(
            reason=limit.reason,
            until=run_at if limit.until == task.run_at else shown_or_none(limit.until),
        )
        for limit in limits
    ]


def masked(headers: dict[str, str], *, secret_headers: frozenset[str]) -> dict[str, str]:
    """Return headers with the values of the secret ones hidden."""
    return {
        name: MASKED if name.lower() in secret_headers else value
        for name, value in headers.items()
    }


def unmasked(headers: dict[str, str], known: dict[str, str]) -> dict[str, str]:
    """Return headers in which those with hidden values have the values that are known."""
    values = {name.lower(): value for name, value in known.items()}
    return {
        name: values.get(name.lower(), value) if value == MASKED else value
        for name, value in headers.items()
    }


def response_text(attempt: Attempt) -> str:
    """Return an answer as text; what was cut within a character ends before it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(attempt.response_body, final=not attempt.response_truncated)


def shown(moment: Moment) -> str:
    """Return a moment as RFC 3339 text; one outside the years 1 to 9999 is moved inside."""
    try:
        return rfc3339(moment)
    except OverflowError:
        return rfc3339(_FIRST if moment < _FIRST else _LAST)


def shown_or_none(moment: Moment | None) -> str | None:
    """Return a moment as RFC 3339 text, None for none."""
    return None if moment is None else shown(moment)


def _shown_as(
    kind: Callable[..., V], task: Task, more: dict[str, object], *, run_at: ShownTime | None = None
) -> V:
    """Return a view of a task, with the fields that only some kinds of view have."""
    fields = dict(zip(ShownTask.__struct_fields__, _shown_fields(task), strict=True))
    for name in _TIMES:
        fields[name] = shown_or_none(fields[name])
    if run_at is not None:
        fields["run_at"] = run_at
    if task.retry is not None:
        fields["retry"] = RetryFields(**overrides_of(task.retry))
    return kind(**fields, **more)


def _content(task: Task, secret_headers: frozenset[str]) -> dict[str, object]:
    """Return a task's headers, and its body in the form in which it was pushed."""
    headers = masked(task.headers, secret_headers=secret_headers)
    if task.delivery is DeliveryForm.ENVELOPE or task.body_kind is BodyKind.BASE64:
        return {"headers": headers, "body_base64": base64.b64encode(task.body).decode()}
    if task.body_kind is BodyKind.JSON:
        return {"headers": headers, "json": msgspec.Raw(task.body)}
    if task.body_kind is BodyKind.TEXT:
        return {"headers": headers, "text": task.body.decode("utf-8", "replace")}
    return {"headers": headers}
