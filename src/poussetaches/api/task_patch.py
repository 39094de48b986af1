"""Conversion of merge patches (RFC 7396) of tasks to ``Changes``."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from poussetaches.core.changes import NO_CHANGES, BodyChange, Changes
from poussetaches.core.errors import InvalidTask
from poussetaches.core.json_depth import MAX_DEPTH, is_too_deep
from poussetaches.core.merge_patch import (
    Document,
    document_in,
    is_null,
    is_object,
    merged_document,
)
from poussetaches.core.moment import Moment, later
from poussetaches.core.msgspec_errors import field_and_reason, unknown_field
from poussetaches.core.new_task import (
    body_of,
    check_callbacks,
    check_together,
    limited,
    planned,
    values_of,
)
from poussetaches.core.target import is_path
from poussetaches.core.task import MAX_DELAY, BodyKind
from poussetaches.core.task_fields import TaskChanges, TaskFields
from poussetaches.engine.queue_registry import Queues

CHANGEABLE = frozenset(TaskChanges.__struct_fields__)

V = TypeVar("V")

_FIELDS = msgspec.json.Decoder(TaskFields)
_CHANGES = msgspec.json.Decoder(TaskChanges)
_ANY_URL = msgspec.Raw(b'"http://anywhere.invalid/"')  # for patches without a URL

# Fields that a patch merges, with the values to which null resets them.
_EMPTY: dict[str, object] = {"headers": {}, "labels": {}, "retry": None}


def changes_of(patch: Document, queues: Queues, *, now: Moment, max_body: int) -> Changes:
    """Return the changes of a merge patch; null resets a field.

    Raises:
        InvalidTask: a field cannot be changed, or has an invalid value.
        TargetNotAllowed: sending to the new target is not allowed.
    """
    if not patch:
        return NO_CHANGES
    _check_names(patch)
    changes = _decoded(_CHANGES, patch)
    fields = _decoded(_FIELDS, merged_document({"url": _ANY_URL}, patch))
    check_together(fields)
    path = None
    if "url" in patch and is_path(fields.url):
        path = queues.path_target(fields.url)
    elif "url" in patch:
        queues.allowed.check("url", fields.url)
    check_callbacks(fields, queues)
    return Changes(
        fields=_replaced_fields(fields, patch, now=now),
        headers=changes.headers,
        labels=changes.labels,
        retry=_retry_changes(fields, patch),
        body=_body_change(fields, patch, max_body=max_body),
        run_at=_run_at_of(fields, patch, now=now),
        path=path,
    )


def _retry_changes(fields: TaskFields, patch: Document) -> dict[str, object] | None:
    if fields.retry is None:
        return None
    return {name: getattr(fields.retry, name) for name in document_in(patch["retry"])}


def _check_names(patch: Document) -> None:
    for name, value in patch.items():
        if name not in CHANGEABLE:
            if name in TaskFields.__struct_fields__:
                raise InvalidTask(name, "cannot be changed; remove it")
            raise InvalidTask(name, unknown_field(TaskChanges, name))
        if is_too_deep(bytes(value)):
            raise InvalidTask(name, f"is nested more than {MAX_DEPTH} levels deep")
    if "url" in patch and is_null(patch["url"]):
        raise InvalidTask("url", "is missing")


def _replaced_fields(fields: TaskFields, patch: Document, *, now: Moment) -> dict[str, object]:
    replaced = values_of(fields, (name for name in patch if name not in _EMPTY))
    replaced |= {name: _EMPTY[name] for name in _EMPTY if name in patch and is_null(patch[name])}
    if "expires_at" in patch:
        time = fields.expires_at
        latest = later(now, MAX_DELAY)
        replaced["expires_at"] = (
            None if time is None else limited("expires_at", time, latest=latest)
        )
    return replaced


def _body_change(fields: TaskFields, patch: Document, *, max_body: int) -> BodyChange | None:
    named = frozenset(kind for kind in BodyKind if kind.value in patch)
    if not named:
        return None
    body, kind = body_of(fields, max_body=max_body)
    if kind is None:  # null empties a body of its own form only
        return BodyChange(emptied=named, max_body=max_body)
    merge_patch = None
    if kind is BodyKind.JSON and is_object(bytes(patch["json"])):
        merge_patch = document_in(patch["json"])
    return BodyChange(body=body, kind=kind, patch=merge_patch, max_body=max_body)


def _run_at_of(fields: TaskFields, patch: Document, *, now: Moment) -> Moment | None:
    if "run_at" not in patch:
        return None
    if fields.run_at is None:
        return now
    return planned("run_at", fields.run_at, now=now, latest=later(now, MAX_DELAY))


def _decoded(decoder: msgspec.json.Decoder[V], document: Document) -> V:
    text = msgspec.json.encode(document)
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as exc:
        raise InvalidTask(*field_and_reason(str(exc), decoder.type, text)) from None
