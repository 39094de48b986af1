"""Keeps what is left of the queues' rates, so that a restart gives no queue a full burst."""

from __future__ import annotations

import logging
import math

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.moment import SECOND, Moment
from poussetaches.core.queue import BucketRecord
from poussetaches.engine.clock import Clock
from poussetaches.engine.lanes import Lanes
from poussetaches.store.base import Store

log = logging.getLogger(__name__)


class Rates:
    """Writes the tokens of limited queues down when attempts take some, and reads them again."""

    def __init__(self, *, store: Store, clock: Clock, lanes: Lanes) -> None:
        self._store = store
        self._clock = clock
        self._lanes = lanes

    async def load(self) -> None:
        """Go on with the tokens that an earlier process left."""
        reading, now = self._clock.read(), self._clock.monotonic()
        for queue, record in (await self._store.buckets()).items():
            if record.boot_id and record.boot_id == self._clock.boot_id:
                wait = record.full_at_uptime - reading.uptime
            else:  # nothing but the wall clock ran on while the machine was off
                wait = record.full_at - reading.now
            if wait > 0:
                self._lanes.limits.remember(queue, full_at=now + wait / SECOND)

    async def keep(self) -> None:
        """Write down what attempts took, until they take no more."""
        while spent := self._lanes.take_spent():
            reading = self._clock.read()
            records = {}
            for queue, seconds in spent.items():
                wait = math.ceil(seconds * SECOND)
                records[queue] = BucketRecord(
                    boot_id=self._clock.boot_id,
                    full_at_uptime=reading.uptime + wait,
                    full_at=Moment(reading.now + wait),
                )
            try:
                await self._store.keep_buckets(records)
            except StoreUnavailable as exc:
                log.debug("rates wait for the store", extra={"error": str(exc)})
                self._lanes.spent_by(spent)
                return
