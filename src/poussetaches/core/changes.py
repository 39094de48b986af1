"""``Changes``: the changes of a task as a value, and their application to a task."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from poussetaches.core.body import check_body
from poussetaches.core.errors import InvalidTask
from poussetaches.core.headers import merged_headers
from poussetaches.core.merge_patch import Document, document_in, is_object, merged_document
from poussetaches.core.moment import Moment
from poussetaches.core.retry import RetryOverrides, check_retry
from poussetaches.core.target_allowlist import AllowedTargets, check_path
from poussetaches.core.task import BodyKind, DeliveryForm, Task, TaskState
from poussetaches.core.task_fields import MAX_LABELS


class BodyChange(msgspec.Struct, frozen=True, kw_only=True):
    """A new body, or none; ``patch`` is a merge patch, for tasks whose body is JSON."""

    body: bytes = b""
    kind: BodyKind | None = None
    patch: Document | None = None
    emptied: frozenset[BodyKind] = frozenset()  # without a new body: the kinds that lose theirs
    max_body: int  # bytes


class PathTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A new URL that is a path, and the base URLs that queues put in front of it."""

    path: str
    base_urls: Mapping[str, str]  # by queue
    default: str | None  # of the other queues
    allowed: AllowedTargets


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of a task's fields. All checks that do not depend on the task have passed."""

    fields: Mapping[str, object] = {}  # new values, which do not depend on the old ones
    headers: Mapping[str, str | None] | None = None  # by name; None removes a header
    labels: Mapping[str, str | None] | None = None
    retry: Mapping[str, object] | None = None  # fields of the retry policy; None resets one
    body: BodyChange | None = None
    run_at: Moment | None = None
    path: PathTarget | None = None


NO_CHANGES = Changes()


def amended(task: Task, changes: Changes) -> Task:
    """Return a task with changes made.

    Raises:
        InvalidTask: they do not fit this task.
        TargetNotAllowed: sending to the new target is not allowed.
    """
    if changes is NO_CHANGES:
        return task
    changed = dict(changes.fields)
    if changes.path is not None:
        _check_path(changes.path, task.queue)
    if changes.headers is not None:
        changed["headers"] = merged_headers(task.headers, changes.headers)
    if changes.labels is not None:
        changed["labels"] = _merged_labels(task.labels, changes.labels)
    if changes.retry is not None:
        changed["retry"] = merged_retry(task.retry, changes.retry)
    if task.delivery is DeliveryForm.ENVELOPE and "retry" in changed:
        raise InvalidTask(
            "retry", "cannot be changed: tasks of the original's API have a fixed policy"
        )
    if changes.body is not None:
        changed |= _changed_body(task, changes.body)
    if changes.run_at is not None:
        changed["run_at"] = changes.run_at
        # Ages count from when the round is first due.
        if task.state is TaskState.WAITING and task.attempt_count == 0:
            changed["due_at"] = changes.run_at
    return msgspec.structs.replace(task, **changed)


def merged_retry(known: RetryOverrides | None, changes: Mapping[str, object]) -> RetryOverrides:
    """Return a retry policy with some fields replaced; None resets one.

    Raises:
        InvalidTask: two of its values contradict each other.
    """
    retry = msgspec.structs.replace(known or RetryOverrides(), **changes)
    check_retry(retry)
    return retry


def _check_path(target: PathTarget, queue: str) -> None:
    base_url = target.base_urls.get(queue, target.default)
    check_path("url", target.path, base_url, queue=queue, allowed=target.allowed)


def _merged_labels(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    merged = {name: value for name, value in {**labels, **changes}.items() if value is not None}
    if len(merged) > MAX_LABELS:
        raise InvalidTask(
            "labels", f"there would be {len(merged)}; at most {MAX_LABELS} are allowed"
        )
    return merged


def _changed_body(task: Task, change: BodyChange) -> dict[str, object]:
    if change.kind is None:
        is_kept = task.body_kind is not None and task.body_kind not in change.emptied
        return {} if is_kept else {"body": b"", "body_kind": None}
    body = change.body
    if change.patch is not None and task.body_kind is BodyKind.JSON:
        known = document_in(task.body) if is_object(task.body) else {}
        body = msgspec.json.encode(merged_document(known, change.patch))
        check_body(body, BodyKind.JSON, max_body=change.max_body)
    return {
        "body": body,
        "body_kind": None if task.delivery is DeliveryForm.ENVELOPE else change.kind,
    }
