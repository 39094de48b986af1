"""Buries what has expired, prunes what has ended long ago, gives disk space back."""

from __future__ import annotations

import logging

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.queue import QueueCounts
from poussetaches.core.task import TaskState
from poussetaches.engine.clock import Clock
from poussetaches.engine.config import EngineConfig
from poussetaches.engine.lanes import Lanes
from poussetaches.store.base import Store

INTERVAL = 60.0  # seconds
BATCH = 500  # tasks; keeps each transaction under some 50 ms

log = logging.getLogger(__name__)


class Maintenance:
    """Keeps the store small and true to its retention."""

    def __init__(self, *, store: Store, clock: Clock, lanes: Lanes, config: EngineConfig) -> None:
        self._store = store
        self._clock = clock
        self._lanes = lanes
        self._config = config

    async def tick(self) -> float | None:
        """Do all there is to do; return when to look again."""
        try:
            await self._expire()
            for queue, counts in (await self._store.counts()).items():
                await self._prune(queue, counts)
            await self._store.shrink()
        except StoreUnavailable as exc:
            log.warning("maintenance waits for the store", extra={"error": str(exc)})
        self._lanes.forget_idle()
        return self._clock.monotonic() + INTERVAL

    async def _expire(self) -> None:
        count = BATCH
        while count == BATCH:
            count = await self._store.expire(now=self._clock.now(), limit=BATCH)
            if count:
                log.info("tasks expired", extra={"count": count})

    async def _prune(self, queue: str, counts: QueueCounts) -> None:
        settings = self._config.settings_of(queue)
        ended = (
            (TaskState.SUCCEEDED, counts.succeeded, settings.keep_succeeded),
            (TaskState.DEAD, counts.dead, settings.keep_dead),
        )
        for state, held, keep in ended:
            total, count = 0, BATCH if held else 0
            while count == BATCH:
                count = await self._store.prune(
                    queue, state, keep, now=self._clock.now(), limit=BATCH
                )
                total += count
            if total:
                fields = {"queue": queue, "state": state.value, "count": total}
                log.info("ended tasks pruned", extra=fields)
