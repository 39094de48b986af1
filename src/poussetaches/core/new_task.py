"""Construction of tasks from the fields of pushes, with all checks, for every dialect."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import datetime
from operator import attrgetter
from random import Random
from typing import Protocol

import msgspec

from poussetaches.core.body import check_body
from poussetaches.core.callback import check_callback
from poussetaches.core.errors import InvalidTask, TooMany
from poussetaches.core.headers import MAX_HEADER_BYTES, MAX_HEADERS, check_headers
from poussetaches.core.ids import new_task_id
from poussetaches.core.moment import Moment, later, moment_of
from poussetaches.core.queue import (
    CALLBACKS_QUEUE,
    DEFAULT_QUEUE,
    MAX_QUEUES,
    Queue,
    QueueSettings,
)
from poussetaches.core.retry import check_retry
from poussetaches.core.target import check_url, is_path
from poussetaches.core.target_allowlist import AllowedTargets, check_path
from poussetaches.core.task import MAX_DELAY, BodyKind, DeliveryForm, Task
from poussetaches.core.task_fields import TaskFields, check_combination

NO_TRACE: Mapping[str, str] = {}

_CONVERTED = frozenset({"retry", "run_at", "expires_at"})
# Fields of a push that the task has as they are given; null is the task's default.
_AS_GIVEN = tuple(
    name
    for name in TaskFields.__struct_fields__
    if name in Task.__struct_fields__ and name not in _CONVERTED
)
_values_as_given = attrgetter(*_AS_GIVEN)


class KnownQueues(Protocol):
    """The existing queues, and where tasks may be sent."""

    @property
    def allowed(self) -> AllowedTargets:
        """Where tasks may be sent."""

    def __len__(self) -> int:
        """Return the number of queues."""

    def get(self, name: str) -> Queue | None:
        """Return a queue; None if there is none of this name."""

    def settings_of(self, name: str) -> QueueSettings:
        """Return the settings in force for a queue, also for one that does not exist."""


class TaskLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The server's limits for tasks."""

    max_body: int  # bytes, decoded
    declared_only: bool = False  # whether pushes must not create queues


class TaskBuilder:
    """Makes the tasks of one request, which all have the same time of push.

    ``trace`` are the headers that pass the trace of the push on; a task that names its own
    keeps them.
    """

    def __init__(
        self,
        queues: KnownQueues,
        limits: TaskLimits,
        *,
        now: Moment,
        random: Random,
        trace: Mapping[str, str] = NO_TRACE,
    ) -> None:
        self._queues = queues
        self._limits = limits
        self._now = now
        self._random = random
        self._trace = trace
        self._checked_queues: set[str] = set()
        self._new_queue_count = 0

    def build(self, fields: TaskFields, *, delivery: DeliveryForm = DeliveryForm.PLAIN) -> Task:
        """Return the task of a push.

        Raises:
            InvalidTask: a field has a value that is not allowed.
            BodyTooLarge: the body is longer than is allowed.
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
        given = {
            name: value
            for name, value in zip(_AS_GIVEN, _values_as_given(fields), strict=True)
            if value is not None
        }
        if self._trace:
            given["headers"] = self._traced(given.get("headers", {}))
        return Task(
            id=new_task_id(self._now, self._random),
            body=body,
            # The envelope implies its own Content-Type.
            body_kind=body_kind if delivery is DeliveryForm.PLAIN else None,
            delivery=delivery,
            retry=None if fields.retry is None else fields.retry.overrides(),
            expires_at=self._expires_at_of(fields),
            created_at=self._now,
            run_at=run_at,
            due_at=run_at,
            **given,
        )

    def _check_queue(self, queue: str) -> None:
        if self._queues.get(queue) is None:
            if self._limits.declared_only:
                raise InvalidTask(
                    "queue",
                    f"there is no queue {queue!r}, and only declared queues accept tasks; declare"
                    " it with tasks.queue(…) in the code, or PUT /v1/queues/{name}",
                )
            if len(self._queues) + self._new_queue_count >= MAX_QUEUES:
                raise TooMany(f"there are {MAX_QUEUES} queues already, which is the maximum")
            self._new_queue_count += 1
        self._checked_queues.add(queue)

    def _run_at_of(self, fields: TaskFields) -> Moment:
        if fields.run_at is not None:
            return planned("run_at", fields.run_at, now=self._now, latest=self._latest())
        return later(self._now, fields.delay) if fields.delay else self._now

    def _expires_at_of(self, fields: TaskFields) -> Moment | None:
        if fields.expires_at is None:
            return None
        return limited("expires_at", fields.expires_at, latest=self._latest())

    def _latest(self) -> Moment:
        return later(self._now, MAX_DELAY)

    def _traced(self, headers: Mapping[str, str]) -> dict[str, str]:
        if any(name.lower() in ("traceparent", "tracestate") for name in headers):
            return dict(headers)
        traced = {**headers, **self._trace}
        size = sum(len(name) + len(value) for name, value in traced.items())
        if len(traced) > MAX_HEADERS or size > MAX_HEADER_BYTES:
            return dict(headers)
        return traced


def values_of(fields: TaskFields, names: Iterable[str]) -> dict[str, object]:
    """Return the values of a task's fields by their names; null is the task's default.

    Fields that a task does not have as they are given are left out.
    """
    never = Moment(0)
    default = Task(id="", url="", created_at=never, run_at=never, due_at=never)
    values = {name: getattr(fields, name) for name in names if name in _AS_GIVEN}
    return {
        name: getattr(default, name) if value is None else value for name, value in values.items()
    }


def planned(field: str, time: datetime, *, now: Moment, latest: Moment) -> Moment:
    """Return the moment of a time, or the present one if it has passed.

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
        raise InvalidTask(field, "must be at most ten years ahead")
    return moment


def check_callbacks(fields: TaskFields, queues: KnownQueues) -> None:
    """Check that callbacks have valid and allowed URLs.

    Raises:
        InvalidTask: one is a path, and neither its queue nor the server has a base URL.
        TargetNotAllowed: nothing may be sent there.
    """
    for field, url in (("on_success", fields.on_success), ("on_dead", fields.on_dead)):
        if url:
            check_target(field, url, CALLBACKS_QUEUE, queues)


def check_target(field: str, url: str, queue: str, queues: KnownQueues) -> None:
    """Check that a URL is valid and allowed.

    Raises:
        InvalidTask: it is a path without a base URL, or invalid once joined to it.
        TargetNotAllowed: the target is not allowed.
    """
    if not is_path(url):
        queues.allowed.check(field, url)
        return
    base_url = queues.settings_of(queue).base_url
    check_path(field, url, base_url, queue=queue, allowed=queues.allowed)


def check_together(fields: TaskFields) -> None:
    """Check rules between fields, and rules that the struct cannot express.

    Raises:
        InvalidTask: a field has a value that is not allowed.
    """
    check_combination(
        delay=fields.delay,
        run_at=fields.run_at,
        unique=fields.unique,
        on_conflict=fields.on_conflict,
    )
    if fields.key_ttl is not None and fields.key is None:
        raise InvalidTask("key_ttl", "requires key")
    if fields.headers:
        check_headers(fields.headers)
    if fields.retry is not None:
        check_retry(fields.retry)
    if fields.on_success is not None:
        check_callback("on_success", fields.on_success)
    if fields.on_dead is not None:
        check_callback("on_dead", fields.on_dead)
    check_url(fields.url)


def body_of(fields: TaskFields, *, max_body: int) -> tuple[bytes, BodyKind | None]:
    """Return the body of a push and its kind.

    Raises:
        InvalidTask: there are several, or it is not what its field's name says.
        BodyTooLarge: it is longer than ``max_body`` bytes.
    """
    json = b"" if fields.json is msgspec.UNSET else bytes(fields.json)
    body, kind = b"", None
    if json not in (b"", b"null"):
        body, kind = json, BodyKind.JSON
    if fields.text is not None:
        _check_only_body(BodyKind.TEXT, other=kind)
        body, kind = fields.text.encode(), BodyKind.TEXT
    if fields.body_base64 is not None:
        _check_only_body(BodyKind.BASE64, other=kind)
        body, kind = _decoded(fields.body_base64), BodyKind.BASE64
    if kind is None:
        return b"", None
    check_body(body, kind, max_body=max_body)
    return body, kind


def _check_only_body(kind: BodyKind, *, other: BodyKind | None) -> None:
    if other is not None:
        raise InvalidTask(
            kind.value, f"a task has only one body, and {other.value} is also given; remove one"
        )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidTask("body_base64", f"is not base64: {exc}") from None
