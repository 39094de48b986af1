"""Buries expired tasks, prunes ended ones past their retention, releases disk space.

What has expired is buried at every turn, so within the longest sleep of a loop; the rest, which
costs something for each queue, is done once a minute. Disk space is then given back piece by
piece, with pauses for other writes. Ages are measured by the confirmed time: a clock that is
wrongly ahead for a moment must delete nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.responses import QueueCounts
from poussetaches.core.task import TaskState
from poussetaches.engine.clock import Clock
from poussetaches.engine.defects import Defects
from poussetaches.engine.lanes import Lanes
from poussetaches.engine.queue_registry import Queues
from poussetaches.store.base import Store

INTERVAL = 60.0  # seconds
SHRINK_PAUSE = 1.0  # seconds between two pieces of disk space
LONGEST_TURN = 20.0  # seconds; a loop that does not turn for 60 s looks stuck
BATCH = 500  # rows; keeps each transaction under some 50 ms
MOST_TIDYINGS = 200  # per turn, so that pruning and the disk have time too

log = logging.getLogger(__name__)


class Maintenance:
    """Applies expiry and retention to the store."""

    def __init__(
        self, *, store: Store, clock: Clock, lanes: Lanes, queues: Queues, defects: Defects
    ) -> None:
        self._store = store
        self._clock = clock
        self._lanes = lanes
        self._queues = queues
        self._defects = defects
        self.pruned: Counter[TaskState] = Counter()  # tasks since the start
        self._clean_at = clock.monotonic()
        self._may_shrink = False
        self._stop_at = clock.monotonic()

    async def tick(self) -> float | None:
        """Do the maintenance that is due, or a part of it; return when to continue."""
        now = self._clock.monotonic()
        self._stop_at = now + LONGEST_TURN
        try:
            await self._guarded("expiring tasks", self._expire())
            if self._clean_at <= now:
                await self._clean()
            if self._may_shrink:
                await self._guarded("shrinking the database", self._shrink())
        except StoreUnavailable as exc:
            log.warning("maintenance waits for the store", extra={"error": str(exc)})
            return now + INTERVAL
        if self._has_run_long:
            return self._clock.monotonic()
        if self._clean_at <= now:
            self._clean_at = now + INTERVAL
        if self._may_shrink:
            return min(self._clean_at, self._clock.monotonic() + SHRINK_PAUSE)
        return self._clean_at

    @property
    def _has_run_long(self) -> bool:
        return self._clock.monotonic() >= self._stop_at

    async def _clean(self) -> None:
        self._lanes.forget_idle()
        for queue, counts in (await self._store.counts()).items():
            await self._guarded("pruning tasks", self._prune(queue, counts))
        await self._guarded("tidying", self._tidy())
        self._may_shrink = True

    async def _guarded(self, what: str, work: Awaitable[None]) -> None:
        """Do one piece of work; a defect in it does not stop the others."""
        try:
            await work
        except StoreUnavailable:
            raise
        except Exception as exc:
            self._defects.note("maintenance failed", exc, what=what)

    async def _shrink(self) -> None:
        self._may_shrink = False
        self._may_shrink = await self._store.shrink()

    async def _expire(self) -> None:
        count = BATCH
        while count and not self._has_run_long:
            count = await self._store.expire(
                now=self._clock.now(), confirmed=self._clock.confirmed(), limit=BATCH
            )
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
            while count and not self._has_run_long:
                count = await self._store.prune(
                    queue,
                    state,
                    keep,
                    now=self._clock.now(),
                    confirmed=self._clock.confirmed(),
                    limit=BATCH,
                )
                total += count
                self.pruned[state] += count
            if total:
                fields = {"queue": queue, "state": state.value, "count": total}
                log.info("ended tasks pruned", extra=fields)

    async def _tidy(self) -> None:
        for _ in range(MOST_TIDYINGS):
            now, confirmed = self._clock.now(), self._clock.confirmed()
            if not await self._store.tidy(now=now, confirmed=confirmed, limit=BATCH):
                return
