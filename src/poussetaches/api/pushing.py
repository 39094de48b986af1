"""``Pushing``: builds and stores the tasks of a push, of one or of many."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from starlette.requests import Request

from poussetaches.api.engine_view import EngineView
from poussetaches.core.moment import Moment
from poussetaches.core.new_task import NO_TRACE, TaskBuilder, TaskLimits
from poussetaches.core.task_fields import TaskFields
from poussetaches.store.base import Push, Pushed, Store

DEFAULT_KEY_TTL = 86_400.0  # seconds

_TRACE_HEADERS = frozenset({b"traceparent", b"tracestate"})
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]*)?")
_TRACESTATE = re.compile(r"[\t\x20-\x7e]{1,512}")


class Pushing:
    """Builds the tasks of a request and stores them."""

    def __init__(
        self,
        *,
        store: Store,
        engine: EngineView,
        now: Callable[[], Moment],
        random: Random,
        limits: TaskLimits,
    ) -> None:
        self._store = store
        self._engine = engine
        self._now = now
        self._random = random
        self._limits = limits

    def builder(self, request: Request) -> TaskBuilder:
        """Return a builder for the tasks of a request, with its trace and the current time."""
        return TaskBuilder(
            self._engine.queues,
            self._limits,
            now=self._now(),
            random=self._random,
            trace=trace_of(request.scope["headers"]),
        )

    async def store(self, pushes: Sequence[Push]) -> list[Pushed]:
        """Store tasks, all or none.

        Leaps of the clock make keys expire neither early nor late.

        Raises:
            KeyConflict: a key belongs to another push.
            StoreBusy: too many pushes are waiting to be written.
        """
        if all(push.task.key is None for push in pushes):
            return await self._store.push(pushes, now=self._now())
        latest, confirmed = self._engine.latest_possible(), self._engine.confirmed()
        return await self._store.push(pushes, now=latest, confirmed=confirmed)


def build_push(builder: TaskBuilder, fields: TaskFields) -> Push:
    """Return the push of a task.

    Raises:
        InvalidTask: a field has a value that is not allowed.
        TargetNotAllowed: nothing may be sent to where a URL leads.
        TooMany: it would make one queue too many.
    """
    return Push(
        task=builder.build(fields),
        key_ttl=DEFAULT_KEY_TTL if fields.key_ttl is None else fields.key_ttl,
        replaces=fields.on_conflict == "replace",
    )


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Return those of a request's headers that pass its trace on, if others can read them.

    W3C Trace Context: a state without a parent, or with a parent that is broken, is dropped.
    """
    found = {name: value.decode("latin-1") for name, value in headers if name in _TRACE_HEADERS}
    parent, state = found.get(b"traceparent"), found.get(b"tracestate")
    if parent is None or not _TRACEPARENT.fullmatch(parent):
        return NO_TRACE
    if state is None or not _TRACESTATE.fullmatch(state):
        return {"traceparent": parent}
    return {"traceparent": parent, "tracestate": state}
