"""``TaskPusher``: builds and stores the tasks of pushes."""

from __future__ import annotations

import re
from asyncio import Future
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from poussetaches.api.engine_view import EngineView
from poussetaches.core.moment import Moment
from poussetaches.core.new_task import NO_TRACE, TaskBuilder, TaskLimits
from poussetaches.core.task_fields import DEFAULT_KEY_TTL, TaskFields
from poussetaches.store.base import Push, PushResult, Store

_TRACE_HEADERS = frozenset({b"traceparent", b"tracestate"})
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]*)?")
_TRACESTATE = re.compile(r"[\t\x20-\x7e]{1,512}")


@dataclass(frozen=True, kw_only=True)
class TaskPusher:
    """Builds the tasks of requests, and stores them."""

    store: Store
    engine: EngineView
    now: Callable[[], Moment]
    random: Random
    limits: TaskLimits

    def builder(self, headers: Iterable[tuple[bytes, bytes]]) -> TaskBuilder:
        """Return a builder for the tasks of a request, with its trace and the current time."""
        return TaskBuilder(
            self.engine.queues,
            self.limits,
            now=self.now(),
            random=self.random,
            trace=trace_of(headers),
        )

    def push(self, pushes: Sequence[Push]) -> Future[list[PushResult]]:
        """Begin to store tasks, all or none, as ``Store.push``.

        Leaps of the clock do not change when keys expire.
        """
        if all(push.task.key is None for push in pushes):
            return self.store.push(pushes, now=self.now())
        latest, confirmed = self.engine.latest_possible(), self.engine.confirmed()
        return self.store.push(pushes, now=latest, confirmed=confirmed)


def build_push(builder: TaskBuilder, fields: TaskFields) -> Push:
    """Return the push of a task.

    Raises:
        InvalidTask: a field has a value that is not allowed.
        TargetNotAllowed: sending to a URL is not allowed.
        TooMany: it would create a queue beyond the maximum.
    """
    return Push(
        task=builder.build(fields),
        key_ttl=DEFAULT_KEY_TTL if fields.key_ttl is None else fields.key_ttl,
        replaces=fields.on_conflict == "replace",
    )


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Return the trace headers of a request (W3C Trace Context), without malformed ones.

    A tracestate without a valid traceparent is dropped.
    """
    trace = {name: value.decode("latin-1") for name, value in headers if name in _TRACE_HEADERS}
    parent, state = trace.get(b"traceparent"), trace.get(b"tracestate")
    if parent is None or not _TRACEPARENT.fullmatch(parent):
        return NO_TRACE
    if state is None or not _TRACESTATE.fullmatch(state):
        return {"traceparent": parent}
    return {"traceparent": parent, "tracestate": state}
