"""``TaskPatch``: a JSON merge patch (RFC 7396) of the part of a task that may be changed."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from poussetaches.core import stored
from poussetaches.core.errors import InvalidTask
from poussetaches.core.merge_patch import Document, is_null, merged, merged_document
from poussetaches.core.moment import Moment, later
from poussetaches.core.nesting import is_too_deep
from poussetaches.core.new_task import (
    body_of,
    check_callbacks,
    check_target,
    check_together,
    limited,
    planned,
    values_of,
)
from poussetaches.core.refusal import place_of
from poussetaches.core.retry import RETRY, RetryOverrides, check_retry
from poussetaches.core.target import is_path
from poussetaches.core.task import MAX_DELAY, BodyKind, DeliveryForm, Task, TaskState
from poussetaches.core.task_fields import TaskChanges, TaskFields
from poussetaches.engine.masking import MASKED
from poussetaches.engine.queues import Queues

BODIES = ("json", "text", "body_base64")
CHANGEABLE = frozenset(TaskChanges.__struct_fields__)

V = TypeVar("V")

_FIELDS = msgspec.json.Decoder(TaskFields)
_CHANGES = msgspec.json.Decoder(TaskChanges)
_HEADERS = msgspec.json.Decoder(Document)
_MASKED = msgspec.json.encode(MASKED)
_ANYWHERE = msgspec.Raw(b'"http://anywhere.invalid/"')  # the URL, where it is of no matter


class TaskPatch:
    """Changes of a task: what a patch names is changed, null resets it."""

    def __init__(self, changes: Document, queues: Queues, *, max_body: int) -> None:
        """Take the changes, unless no task could be changed in this way.

        Raises:
            InvalidTask: it names what cannot be changed, or gives it an impossible value.
            TargetNotAllowed: nothing may be sent to where it leads.
        """
        for name, value in changes.items():
            if name not in CHANGEABLE:
                known = name in TaskFields.__struct_fields__
                reason = "cannot be changed" if known else "is not known here"
                raise InvalidTask(name, reason)
            if is_too_deep(bytes(value)):
                raise InvalidTask(name, "is nested too deeply")
        self._changes = changes
        self._queues = queues
        self._max_body = max_body
        self._check_alone()

    def applied(self, task: Task, *, now: Moment) -> Task:
        """Return a task with the changes made.

        Raises:
            InvalidTask: they do not fit this task.
            TargetNotAllowed: nothing may be sent to where it would lead.
        """
        if not self._changes:
            return task
        if task.delivery is DeliveryForm.ENVELOPE and "retry" in self._changes:
            raise InvalidTask("retry", "cannot be changed: the original's route has its own")
        fields = _decoded(_FIELDS, {"url": _ANYWHERE, **self._merged_into(task)})
        check_together(fields)
        if "url" in self._changes:
            check_target("url", fields.url, task.queue, self._queues)
        check_callbacks(fields, self._queues)
        changed = values_of(fields, self._changes)
        if "retry" in self._changes:
            changed["retry"] = patched_retry(task.retry, self._changes["retry"])
        changed |= self._changed_body(fields, task)
        changed |= self._changed_times(fields, task, now=now)
        return msgspec.structs.replace(task, **changed)

    def _check_alone(self) -> None:
        """Refuse what would fit no task at all."""
        if "url" in self._changes and is_null(self._changes["url"]):
            raise InvalidTask("url", "is missing")
        _decoded(_CHANGES, self._changes)  # null has to name what there is, too
        fields = _decoded(_FIELDS, merged_document({"url": _ANYWHERE}, self._changes))
        check_together(fields)
        for field in ("url", "on_success", "on_dead"):
            url = getattr(fields, field)
            if field in self._changes and url and not is_path(url):
                self._queues.allowed.check(field, url)
        body_of(fields, max_body=self._max_body)

    def _merged_into(self, task: Task) -> Document:
        """Return what is to be of the fields that are named."""
        changes, known = dict(self._changes), {}
        for name, value in (("headers", task.headers), ("labels", task.labels)):
            if name in changes:
                known[name] = msgspec.Raw(msgspec.json.encode(value))
        if "headers" in changes:
            changes["headers"] = with_known_names(changes["headers"], task.headers)
        if "json" in changes and task.body_kind is BodyKind.JSON:
            known["json"] = msgspec.Raw(task.body)
        return merged_document(known, changes)

    def _changed_body(self, fields: TaskFields, task: Task) -> dict[str, object]:
        named = [name for name in BODIES if name in self._changes]
        if not named:
            return {}
        body, kind = body_of(fields, max_body=self._max_body)
        # Null empties the body in the form that it is named for, and no other.
        if kind is None and task.body_kind is not None and task.body_kind not in named:
            return {}
        # The envelope implies its own Content-Type.
        return {
            "body": body,
            "body_kind": None if task.delivery is DeliveryForm.ENVELOPE else kind,
        }

    def _changed_times(self, fields: TaskFields, task: Task, *, now: Moment) -> dict[str, object]:
        changed: dict[str, object] = {}
        latest = later(now, MAX_DELAY)
        if "run_at" in self._changes:
            time = fields.run_at
            run_at = now if time is None else planned("run_at", time, now=now, latest=latest)
            changed["run_at"] = run_at
            # Ages count from when the round is first due.
            if task.state is TaskState.WAITING and task.attempt_count == 0:
                changed["due_at"] = run_at
        if "expires_at" in self._changes:
            time = fields.expires_at
            changed["expires_at"] = (
                None if time is None else limited("expires_at", time, latest=latest)
            )
        return changed


def _decoded(decoder: msgspec.json.Decoder[V], document: Document) -> V:
    try:
        return decoder.decode(msgspec.json.encode(document))
    except msgspec.ValidationError as exc:
        raise InvalidTask(*place_of(str(exc), decoder.type)) from None


def patched_retry(known: RetryOverrides | None, change: msgspec.Raw) -> RetryOverrides | None:
    """Return a stored retry policy with a merge patch applied that is valid by itself.

    Raises:
        InvalidTask: two of its values contradict each other.
    """
    if is_null(change):
        return None
    before = b"{}" if known is None else stored.encode(known)
    retry = stored.decode(RETRY, merged(before, bytes(change)))
    check_retry(retry)
    return retry


def with_known_names(change: msgspec.Raw, headers: dict[str, str]) -> msgspec.Raw:
    """Return changes of headers in the spelling of the task, and without masked values."""
    if is_null(change):
        return change
    spellings = {name.lower(): name for name in headers}
    document: Document = {}
    for name, value in _HEADERS.decode(change).items():
        spelling = spellings.get(name.lower(), name)
        if spelling not in headers or bytes(value) != _MASKED:
            document[spelling] = value
    return msgspec.Raw(msgspec.json.encode(document))
