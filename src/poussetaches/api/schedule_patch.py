"""Merge patches (RFC 7396) of schedules: what they are applied to, and what they leave as it is.

Only what a patch names is read and checked as a request is. The rest stays as it is stored, with
values that this version would refuse, and with members that it does not know.
"""

from __future__ import annotations

import msgspec

from poussetaches.api.schedule_fields import template_view
from poussetaches.api.task_patch import BODIES, patched_retry, with_known_names
from poussetaches.core.errors import InvalidSchedule, InvalidTask
from poussetaches.core.merge_patch import Document, document_in, is_null
from poussetaches.core.schedule import Schedule
from poussetaches.core.task import Task

_CHECKED_TOGETHER = frozenset({"url", "queue"})


def with_known_headers(patch: bytes, task: Task) -> bytes:
    """Return a merge patch with headers in the spelling of a task, and without masked values."""
    document = document_in(patch)
    changes = _task_in(document)
    if "headers" not in changes:
        return patch
    changes["headers"] = with_known_names(changes["headers"], task.headers)
    document["task"] = msgspec.Raw(msgspec.json.encode(changes))
    return msgspec.json.encode(document)


def said(schedule: Schedule, patch: bytes) -> bytes:
    """Return the definition that a merge patch is applied to, as far as the patch concerns it.

    A body that is patched in another form is left out: the patch means that one, not both. The
    retry policy is left out, too: it is merged as it is stored.
    """
    changes = _task_in(document_in(patch))
    names = {*changes, *_CHECKED_TOGETHER} - {"retry"}
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
        InvalidSchedule: two values of the retry policy contradict each other.
    """
    document = document_in(patch)
    changes = _task_in(document)
    names = {"body" if name in BODIES else name for name in changes} - {"retry"}
    if "body" in names:
        names.add("body_kind")
    changed: dict[str, object] = {name: getattr(new.task, name) for name in names}
    if "retry" in changes:
        try:
            changed["retry"] = patched_retry(known.task.retry, changes["retry"])
        except InvalidTask as exc:
            raise InvalidSchedule(f"task.{exc.field}", exc.reason) from None
    kept: dict[str, object] = {
        name: getattr(known, name)
        for name in ("misfire", "misfire_grace", "overlap")
        if name not in document
    }
    task = msgspec.structs.replace(known.task, **changed)
    return msgspec.structs.replace(new, task=task, **kept)


def _task_in(document: Document) -> Document:
    return document_in(document["task"]) if "task" in document else {}
