"""Notices that the wall clock was set, logs it, and corrects tasks that would be late by it."""

from __future__ import annotations

import logging
from contextlib import suppress

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.moment import MINUTE, SECOND, ClockRecord, Moment
from poussetaches.engine.clock import LONGEST_WAIT, Clock
from poussetaches.engine.confirmed_time import CONFIRMED_AFTER, NOTICED
from poussetaches.engine.lanes import Lanes
from poussetaches.store.base import LastUse, Store

# A write that was under way when the clock was set back stores the old time, so tasks are
# corrected a second time.
AGAIN_AFTER = 60.0  # seconds

log = logging.getLogger(__name__)


class ClockWatch:
    """Compares the clocks at each turn of the dispatcher, and stores them for the next start."""

    def __init__(self, *, store: Store, clock: Clock, lanes: Lanes) -> None:
        self.leap = 0  # microseconds by which the clock is ahead of the confirmed time
        self._store = store
        self._clock = clock
        self._lanes = lanes
        self._last = clock.record()
        self._kept: ClockRecord | None = None
        self._difference = self._measured()  # between the wall clock and the monotonic one
        self._check_at = float("-inf")  # monotonic
        self._set_back_from: Moment | None = None  # the boot time before the clock was set back
        self._corrections: list[float] = []  # monotonic times at which to correct late tasks

    async def load(self) -> None:
        """Restore the clock's state as an earlier process stored it."""
        kept, use = await self._store.clock(), await self._store.last_use()
        self._kept = kept
        self._clock.recall(kept, latest=use.pushed_at or use.minute)
        self._last = record = self._clock.record()
        earlier = _earlier_boot_time(kept, record, use, now=self._clock.now())
        if earlier is not None and earlier > record.seen + NOTICED:
            self._note_set_back(earlier)
        self.leap = _leap_of(record)
        with suppress(StoreUnavailable):  # the first check tries again
            await self._keep(record)
        if self.leap > MINUTE:
            log.info("clock is ahead of the confirmed time", extra=_fields(self.leap))

    async def check(self) -> None:
        """Check whether the clock was set, and correct tasks that are late because of it.

        Raises:
            StoreUnavailable: the next check does the rest.
        """
        difference = self._measured()
        is_as_before = abs(difference - self._difference) < NOTICED
        if is_as_before and self._clock.monotonic() < self._check_at:
            return
        self._difference, self._check_at = difference, float("-inf")
        record = self._clock.record()
        self._compare(record)
        self._last, self.leap = record, _leap_of(record)
        await self._correct(record)
        await self._keep(record)
        self._check_at = self._clock.monotonic() + LONGEST_WAIT

    def _measured(self) -> int:
        return self._clock.now() - round(self._clock.monotonic() * SECOND)

    def _compare(self, record: ClockRecord) -> None:
        moved = record.seen - self._last.seen
        if abs(moved) > NOTICED:
            self._lanes.limits.buckets.mark_all_unsaved()
        if moved < -NOTICED:
            log.warning("clock was set back", extra=_fields(-moved))
            self._note_set_back(self._last.seen)
        elif moved > NOTICED:
            fields = {**_fields(moved), "confirmed_in": CONFIRMED_AFTER / SECOND}
            log.warning("clock was set ahead", extra=fields)
        elif self.leap and not _leap_of(record):
            log.info("clock is confirmed", extra=_fields(self.leap))

    def _note_set_back(self, earlier: Moment) -> None:
        known = self._set_back_from
        self._set_back_from = earlier if known is None else max(earlier, known)
        now = self._clock.monotonic()
        self._corrections = [now, now + AGAIN_AFTER]

    async def _correct(self, record: ClockRecord) -> None:
        """Make tasks due that were due before the clock was set back."""
        if self._set_back_from is None or self._clock.monotonic() < self._corrections[0]:
            return
        now = self._clock.now()
        count = await self._store.pull_back(
            now=now,
            was=Moment(self._set_back_from + now - record.seen),
            confirmed=self._clock.latest_confirmed() or now,
        )
        # Tasks that had expired by the earlier time may be due again.
        for lane, run_at in (await self._store.next_due()).items():
            self._lanes.add_waiting(lane, run_at)
        if count:
            log.info("tasks due again after the clock was set back", extra={"count": count})
        del self._corrections[0]
        if not self._corrections:
            self._set_back_from = None

    async def _keep(self, record: ClockRecord) -> None:
        if self._kept is None or _differ(record, self._kept):
            await self._store.keep_clock(record)
            self._kept = record


def _earlier_boot_time(
    kept: ClockRecord | None, record: ClockRecord, use: LastUse, *, now: Moment
) -> Moment | None:
    """Return the boot time by the latest time that an earlier process read, if known."""
    found = []
    if kept is not None and kept.boot_id and kept.boot_id == record.boot_id:
        found.append(kept.seen)
    latest = max(use.pushed_at or 0, use.minute or 0)
    if latest > now:
        # ``use.minute`` is the beginning of a minute.
        found.append(Moment(record.seen + latest + MINUTE - now))
    return max(found, default=None)


def _leap_of(record: ClockRecord) -> int:
    leap = record.seen - record.confirmed
    return leap if leap > NOTICED else 0


def _differ(one: ClockRecord, other: ClockRecord) -> bool:
    if one.boot_id != other.boot_id:
        return True
    pairs = (
        (one.seen, other.seen),
        (one.confirmed, other.confirmed),
        (one.highest or 0, other.highest or 0),
    )
    return any(abs(first - second) > NOTICED for first, second in pairs)


def _fields(microseconds: int) -> dict[str, object]:
    return {"seconds": round(microseconds / SECOND, 3)}
