"""Fires schedules: one run at each occurrence, one for any number that was missed."""

from __future__ import annotations

import logging
from random import Random

import msgspec

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.ids import new_task_id
from poussetaches.core.moment import DAY, Moment, later, seconds_between
from poussetaches.core.schedule import Schedule, latest_occurrence, next_occurrence
from poussetaches.core.task import MAX_DELAY
from poussetaches.engine.clock import Clock
from poussetaches.store.base import Store

STORE_RETRY = 1.0  # seconds

log = logging.getLogger(__name__)


class Scheduler:
    """Makes the runs of schedules that are due."""

    def __init__(self, *, store: Store, clock: Clock, random: Random) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        # Before any time: the first turn looks for schedules that a past clock left behind.
        self._last_turn: Moment | None = None

    async def tick(self) -> float | None:
        """Fire what is due; return when the next schedule is."""
        now = self._clock.now()
        try:
            if self._last_turn is None or now < self._last_turn:
                await self._start_stranded_anew(now)
            self._last_turn = now
            for schedule in await self._store.due_schedules(now):
                await self._fire(schedule, now)
            next_at = await self._store.next_schedule_at()
        except StoreUnavailable as exc:
            log.warning("schedules wait for the store", extra={"error": str(exc)})
            return self._clock.monotonic() + STORE_RETRY
        if next_at is None:
            return None
        return self._clock.monotonic() + seconds_between(self._clock.now(), next_at)

    async def _fire(self, schedule: Schedule, now: Moment) -> None:
        occurrence = latest_occurrence(schedule, now=now)
        if occurrence is None:
            return
        next_run_at = _next_after(schedule, now)
        fired = msgspec.structs.replace(
            schedule, last_fired_at=occurrence, next_run_at=next_run_at
        )
        fields = {"schedule": schedule.name, "occurrence": occurrence}
        # A run this late would stand in for the next one.
        if now - occurrence > min(next_run_at - occurrence, DAY):
            await self._store.move_schedule(fired)
            log.warning("occurrence missed", extra=fields)
            return
        run = msgspec.structs.replace(
            schedule.task,
            id=new_task_id(now, self._random),
            schedule=schedule.name,
            created_at=now,
            run_at=now,
            due_at=now,
        )
        if await self._store.fire(fired, run, now=now):
            log.info("schedule fired", extra={**fields, "task": run.id})
        else:
            log.info("occurrence skipped, the last run is not over", extra=fields)

    async def _start_stranded_anew(self, now: Moment) -> None:
        """Move schedules of a clock since set back by over a day: they would stand still."""
        for stranded in await self._store.stranded_schedules(Moment(now + DAY)):
            schedule = msgspec.structs.replace(
                stranded,
                created_at=min(stranded.created_at, now),
                anchor_at=min(stranded.anchor_at, now),
                last_fired_at=None,
            )
            await self._store.move_schedule(
                msgspec.structs.replace(schedule, next_run_at=_next_after(schedule, now))
            )
            log.warning(
                "schedule starts anew, it was of a time still to come",
                extra={"schedule": schedule.name},
            )


def _next_after(schedule: Schedule, now: Moment) -> Moment:
    found = next_occurrence(
        schedule.cron, anchor=schedule.anchor_at, after=now, timezone=schedule.timezone
    )
    # An expression that has run out (a year 10,000 away) is looked at again in ten years.
    return later(now, MAX_DELAY) if found is None else found
