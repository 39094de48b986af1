"""``Pushing``: builds and stores the tasks of a push, of one or of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from starlette.requests import Request

from poussetaches.api.engine_view import EngineView
from poussetaches.api.task_builder import TaskBuilder, TaskLimits, trace_of
from poussetaches.core.moment import Moment
from poussetaches.store.base import Push, Pushed, Store


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
