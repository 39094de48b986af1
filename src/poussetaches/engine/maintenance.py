"""Buries what has expired, prunes what has ended long ago, gives disk space back."""

from __future__ import annotations

import logging
from collections import Counter

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.queue import QueueCounts
from poussetaches.core.task import TaskState
from poussetaches.engine.clock import Clock
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.queues import Queues
from poussetaches.store.base import Store

INTERVAL = 60.0  # seconds
BATCH = 500  # rows; keeps each transaction under some 50 ms
MOST_TIDYINGS = 200  # of one turn: pruning and the disk must have theirs, too

log = logging.getLogger(__name__)


class Maintenance:
    """Keeps the store small and true to its retention."""

    def __init__(self, *, store: Store, clock: Clock, lanes: Lanes, queues: Queues) -> None:
        self._store = store
        self._clock = clock
        self._lanes = lanes
        self._queues = queues
        self.pruned: Counter[TaskState] = Counter()  # tasks since the start

    async def tick(self) -> float | None:
        """Do all there is to do; return when to look again."""
        try:
            await self._expire()
            for queue, counts in (await self._store.counts()).items():
                await self._prune(queue, counts)
            await self._tidy()
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
        settings = self._queues.settings_of(queue)
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
                self.pruned[state] += count
            if total:
                fields = {"queue": queue, "state": state.value, "count": total}
                log.info("ended tasks pruned", extra=fields)

    async def _tidy(self) -> None:
        for _ in range(MOST_TIDYINGS):
            if not await self._store.tidy(now=self._clock.now(), limit=BATCH):
                return
