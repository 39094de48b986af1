"""``BucketStorage``: stores token buckets, so that a restart gives no queue a second burst."""

from __future__ import annotations

import logging
import math

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.moment import SECOND, Moment
from poussetaches.core.queue import BucketRecord
from poussetaches.engine.clock import Clock
from poussetaches.engine.defects import Defects
from poussetaches.engine.token_buckets import TokenBuckets
from poussetaches.store.base import Store

log = logging.getLogger(__name__)


class BucketStorage:
    """Stores the token buckets of rate-limited queues, and restores them at the start."""

    def __init__(
        self, *, store: Store, clock: Clock, buckets: TokenBuckets, defects: Defects
    ) -> None:
        self._store = store
        self._clock = clock
        self._buckets = buckets
        self._defects = defects

    async def load(self) -> None:
        """Restore the buckets as an earlier process left them."""
        reading, now = self._clock.read(), self._clock.monotonic()
        for queue, record in (await self._store.buckets()).items():
            if record.boot_id and record.boot_id == self._clock.boot_id:
                wait = record.full_at_uptime - reading.uptime
            else:  # only the wall clock ran while the machine was off
                wait = record.full_at - reading.now
            if wait > 0:
                self._buckets.restore(queue, full_at=now + wait / SECOND)
        # The machine may have been rebooted, or its clock set: store by the clocks of today.
        self._buckets.mark_all_unsaved()
        await self.save()

    async def save(self) -> None:
        """Store the buckets that attempts took tokens from, until none is left to store."""
        while unsaved := self._buckets.take_unsaved():
            reading = self._clock.read()
            records = {}
            for queue, seconds in unsaved.items():
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
                self._buckets.mark_unsaved(unsaved)
                return
            except Exception as exc:  # the next token that is taken stores the bucket again
                self._defects.note("rates could not be stored", exc)
                return
