"""Merge patches (RFC 7396) of schedules: what they are applied to, and what they leave as it is.

Only what a patch names is read and checked as a request is. The rest stays as it is stored, with
values that this version would refuse, and with members that it does not know.
"""

from __future__ import annotations

import msgspec

from poussetaches.api.schedule_fields import template_view
from poussetaches.core.changes import merged_retry
from poussetaches.core.errors import InvalidSchedule, InvalidTask
from poussetaches.core.headers import merged_headers
from poussetaches.core.merge_patch import Document, document_in, is_null
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import BodyKind, Task

BODIES = frozenset(kind.value for kind in BodyKind)

_MERGED = frozenset({"headers", "retry"})
_HEADERS = msgspec.json.Decoder(dict[str, str | None] | None)
_CHECKED_TOGETHER = frozenset({"url", "queue"})


def said(schedule: Schedule, patch: bytes) -> bytes:
    """Return the definition that a merge patch is applied to, as far as the patch concerns it.

    A body that is patched in another form is left out: the patch means that one, not both. Headers
    and retry policy are left out, too: they are merged as they are stored.
    """
    changes = _task_in(document_in(patch))
    names = {*changes, *_CHECKED_TOGETHER} - _MERGED
    bodies = [changes[name] for name in BODIES if name in changes]
    if bodies and all(map(is_null, bodies)):  # they empty the form that they name, and no other
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


def with_the_rest(new: Schedule, known: Schedule, patch: bytes) -> Schedule:
    """Return a patched schedule with what the patch does not name as it was.

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
        changed |= _merged_fields(new.task, known.task, changes)
    except InvalidTask as exc:
        raise InvalidSchedule(f"task.{exc.field}", exc.reason) from None
    kept: dict[str, object] = {
        name: getattr(known, name)
        for name in ("misfire", "misfire_grace", "overlap")
        if name not in document
    }
    task = msgspec.structs.replace(known.task, **changed)
    return msgspec.structs.replace(new, task=task, **kept)


def _merged_fields(new: Task, known: Task, changes: Document) -> dict[str, object]:
    merged: dict[str, object] = {}
    if "headers" in changes:
        headers = _HEADERS.decode(changes["headers"])
        merged["headers"] = {} if headers is None else merged_headers(known.headers, headers)
    if "retry" in changes and new.retry is None:
        merged["retry"] = None
    elif "retry" in changes:
        values = {name: getattr(new.retry, name) for name in document_in(changes["retry"])}
        merged["retry"] = merged_retry(known.retry, values)
    return merged


def _task_in(document: Document) -> Document:
    return document_in(document["task"]) if "task" in document else {}
