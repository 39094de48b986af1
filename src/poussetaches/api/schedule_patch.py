"""Merge patches (RFC 7396) of schedules.

Only the fields that a patch names are decoded and checked. The others stay as they are
stored, even if this version would refuse their values or does not know them.
"""

from __future__ import annotations

import msgspec

from poussetaches.api.schedule_fields import template_view
from poussetaches.api.views import unmasked
from poussetaches.core.changes import merged_retry
from poussetaches.core.errors import InvalidSchedule, InvalidTask, OwnedByAnother
from poussetaches.core.headers import merged_headers
from poussetaches.core.merge_patch import Document, document_in, is_null
from poussetaches.core.original_constants import OWNER as ORIGINAL
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import BodyKind, Task

BODIES = frozenset(kind.value for kind in BodyKind)

_MERGED = frozenset({"headers", "retry"})
_HEADERS = msgspec.json.Decoder(dict[str, str | None] | None)
_CHECKED_TOGETHER = frozenset({"url", "queue"})


def successor(stored: Schedule, new: Schedule) -> Schedule:
    """Return a new definition with the owner, masked headers and declaration of the old one.

    Raises:
        OwnedByAnother: it was pushed by the original's route.
    """
    if stored.owner == ORIGINAL:
        raise OwnedByAnother(
            f"{stored.name!r} was created by POST /, and its name is derived from its definition; "
            "delete it and create a new one"
        )
    headers = unmasked(new.task.headers, stored.task.headers)
    task = msgspec.structs.replace(new.task, headers=headers)
    return msgspec.structs.replace(new, owner=stored.owner, declared=stored.declared, task=task)


def patch_base(schedule: Schedule, patch: bytes) -> bytes:
    """Return the part of a definition that a merge patch is applied to.

    It has no body if the patch has one in another form, which replaces the body. It has no headers
    and no retry policy, which are merged as they are stored.
    """
    changes = _task_in(document_in(patch))
    names = {*changes, *_CHECKED_TOGETHER} - _MERGED
    bodies = [changes[name] for name in BODIES if name in changes]
    if bodies and all(map(is_null, bodies)):  # null empties a body of its own form only
        names.update(BODIES)
    view = template_view(schedule.task, secret_headers=frozenset())
    task = document_in(msgspec.json.encode(view))
    return msgspec.json.encode(
        {
            "cron": schedule.cron,
            "timezone": schedule.timezone,
            "task": {name: value for name, value in task.items() if name in names},
        }
    )


def with_unnamed_fields(new: Schedule, stored: Schedule, patch: bytes) -> Schedule:
    """Return a patched schedule with the stored values of the fields that the patch does not name.

    Raises:
        InvalidSchedule: the headers or the retry policy are not allowed.
    """
    document = document_in(patch)
    changes = _task_in(document)
    names = {"body" if name in BODIES else name for name in changes} - _MERGED
    if "body" in names:
        names.add("body_kind")
    changed: dict[str, object] = {name: getattr(new.task, name) for name in names}
    try:
        changed |= _merged_fields(new.task, stored.task, changes)
    except InvalidTask as exc:
        raise InvalidSchedule(f"task.{exc.field}", exc.reason) from None
    kept: dict[str, object] = {
        name: getattr(stored, name)
        for name in ("misfire", "misfire_grace", "overlap")
        if name not in document
    }
    task = msgspec.structs.replace(stored.task, **changed)
    return msgspec.structs.replace(new, task=task, **kept)


def _merged_fields(new: Task, stored: Task, changes: Document) -> dict[str, object]:
    merged: dict[str, object] = {}
    if "headers" in changes:
        headers = _HEADERS.decode(changes["headers"])
        merged["headers"] = {} if headers is None else merged_headers(stored.headers, headers)
    if "retry" in changes and new.retry is None:
        merged["retry"] = None
    elif "retry" in changes:
        values = {name: getattr(new.retry, name) for name in document_in(changes["retry"])}
        merged["retry"] = merged_retry(stored.retry, values)
    return merged


def _task_in(document: Document) -> Document:
    return document_in(document["task"]) if "task" in document else {}
