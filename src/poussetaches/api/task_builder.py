"""``TaskBuilder``: makes tasks of what pushes say of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from random import Random

import msgspec

from poussetaches.api.task_fields import (
    TaskFields,
    body_of,
    check_together,
)
from poussetaches.core.allowed import check_path
from poussetaches.core.errors import InvalidTask, TooMany
from poussetaches.core.headers import MAX_HEADER_BYTES, MAX_HEADERS
from poussetaches.core.ids import new_task_id
from poussetaches.core.moment import Moment, later, moment_of
from poussetaches.core.queue import CALLBACKS_QUEUE, DEFAULT_QUEUE, MAX_QUEUES
from poussetaches.core.retry import StatusRule
from poussetaches.core.target import is_path
from poussetaches.core.task import MAX_DELAY, Task
from poussetaches.engine.queues import Queues
from poussetaches.store.base import Push

ANY_SUCCESS: tuple[StatusRule, ...] = ("2xx",)
DEFAULT_KEY_TTL = 86_400.0  # seconds

_NO_TRACE: Mapping[str, str] = {}
_TRACE_HEADERS = frozenset({b"traceparent", b"tracestate"})
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]*)?")
_TRACESTATE = re.compile(r"[\t\x20-\x7e]{1,512}")


class TaskLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the server allows of tasks."""

    max_body: int  # bytes, decoded
    declared_only: bool = False  # whether a push may not make the queue it names


class TaskBuilder:
    """Makes the tasks of one request, all of which are pushed at the same moment.

    ``trace`` are the headers that pass the trace of the push on; a task that names its own
    keeps them.
    """

    def __init__(
        self,
        queues: Queues,
        limits: TaskLimits,
        *,
        now: Moment,
        random: Random,
        trace: Mapping[str, str] = _NO_TRACE,
    ) -> None:
        self._queues = queues
        self._limits = limits
        self._now = now
        self._random = random
        self._trace = trace
        self._latest = later(now, MAX_DELAY)
        self._checked_queues: set[str] = set()
        self._new_queue_count = 0

    def build(self, fields: TaskFields) -> Push:
        """Return the push that fields stand for.

        Raises:
            InvalidTask: a field has a value that is not allowed.
            TargetNotAllowed: nothing may be sent to where a URL leads.
            TooMany: it would make one queue too many.
        """
        check_together(fields)
        queue = fields.queue or DEFAULT_QUEUE
        if queue not in self._checked_queues:
            self._check_queue(queue)
        check_target("url", fields.url, queue, self._queues)
        if fields.on_success or fields.on_dead:
            check_callbacks(fields, self._queues)
        body, body_kind = body_of(fields, max_body=self._limits.max_body)
        run_at = self._run_at_of(fields)
        headers = fields.headers or {}
        task = Task(
            id=new_task_id(self._now, self._random),
            url=fields.url,
            queue=queue,
            method=fields.method or "POST",
            headers=self._traced(headers) if self._trace else headers,
            body=body,
            body_kind=body_kind,
            priority=fields.priority or 0,
            expected=fields.expected or ANY_SUCCESS,
            timeout=fields.timeout,
            retry=None if fields.retry is None else fields.retry.overrides(),
            key=fields.key,
            unique=fields.unique,
            labels=fields.labels or {},
            on_success=fields.on_success,
            on_dead=fields.on_dead,
            expires_at=self._expires_at_of(fields),
            created_at=self._now,
            run_at=run_at,
            due_at=run_at,
        )
        ttl = DEFAULT_KEY_TTL if fields.key_ttl is None else fields.key_ttl
        return Push(task=task, key_ttl=ttl, replaces=fields.on_conflict == "replace")

    def _check_queue(self, queue: str) -> None:
        if self._queues.get(queue) is None:
            if self._limits.declared_only:
                raise InvalidTask(
                    "queue", f"there is no queue {queue!r}, and only declared ones take tasks"
                )
            if len(self._queues) + self._new_queue_count >= MAX_QUEUES:
                raise TooMany(f"there are {MAX_QUEUES} queues already, as many as are allowed")
            self._new_queue_count += 1
        self._checked_queues.add(queue)

    def _run_at_of(self, fields: TaskFields) -> Moment:
        if fields.run_at is not None:
            return planned("run_at", fields.run_at, now=self._now, latest=self._latest)
        return later(self._now, fields.delay) if fields.delay else self._now

    def _expires_at_of(self, fields: TaskFields) -> Moment | None:
        if fields.expires_at is None:
            return None
        return limited("expires_at", fields.expires_at, latest=self._latest)

    def _traced(self, headers: Mapping[str, str]) -> dict[str, str]:
        if any(name.lower() in ("traceparent", "tracestate") for name in headers):
            return dict(headers)
        traced = {**headers, **self._trace}
        size = sum(len(name) + len(value) for name, value in traced.items())
        if len(traced) > MAX_HEADERS or size > MAX_HEADER_BYTES:
            return dict(headers)
        return traced


def planned(field: str, time: datetime, *, now: Moment, latest: Moment) -> Moment:
    """Return the moment of a time; one that has passed means now.

    Raises:
        InvalidTask: it is too far ahead.
    """
    return max(now, limited(field, time, latest=latest))


def limited(field: str, time: datetime, *, latest: Moment) -> Moment:
    """Return the moment of a time that is not too far ahead.

    Raises:
        InvalidTask: it is.
    """
    moment = moment_of(time)
    if moment > latest:
        raise InvalidTask(field, "is more than ten years ahead")
    return moment


def check_callbacks(fields: TaskFields, queues: Queues) -> None:
    """Refuse callbacks that lead nowhere, or where nothing may be sent.

    Raises:
        InvalidTask: one is a path, and neither its queue nor the server has a base URL.
        TargetNotAllowed: nothing may be sent there.
    """
    for field, url in (("on_success", fields.on_success), ("on_dead", fields.on_dead)):
        if url:
            check_target(field, url, CALLBACKS_QUEUE, queues)


def check_target(field: str, url: str, queue: str, queues: Queues) -> None:
    """Refuse a URL that leads nowhere, or where nothing may be sent.

    Raises:
        InvalidTask: it is a path without a base URL, or invalid once joined to it.
        TargetNotAllowed: the target is not allowed.
    """
    if not is_path(url):
        queues.allowed.check(field, url)
        return
    base_url = queues.settings_of(queue).base_url
    check_path(field, url, base_url, queue=queue, allowed=queues.allowed)


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Return those of a request's headers that pass its trace on, if others can read them.

    W3C Trace Context: a state without a parent, or with a parent that is broken, is dropped.
    """
    found = {name: value.decode("latin-1") for name, value in headers if name in _TRACE_HEADERS}
    parent, state = found.get(b"traceparent"), found.get(b"tracestate")
    if parent is None or not _TRACEPARENT.fullmatch(parent):
        return _NO_TRACE
    if state is None or not _TRACESTATE.fullmatch(state):
        return {"traceparent": parent}
    return {"traceparent": parent, "tracestate": state}
