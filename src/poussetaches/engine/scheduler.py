"""Fires schedules: one run at each occurrence, and missed ones by the misfire policy.

An occurrence counts as missed when it could not be fired within the scheduler's allowance, since
the server was down or the store was full. Within it, a run is on time under any misfire
policy, so a short delay of a turn never costs a run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from random import Random

import msgspec

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.moment import DAY, MINUTE, SECOND, Moment, rfc3339, seconds_between
from poussetaches.core.schedule import (
    LONGEST_GRACE,
    Misfire,
    Schedule,
    following,
    latest_occurrence,
    missed_occurrences,
    run_of,
)
from poussetaches.engine.clock import Clock
from poussetaches.engine.defects import Defects
from poussetaches.store.base import Store

STORE_RETRY = 1.0  # seconds
AT_ONCE = 100  # schedules that share a commit: thousands are due at midnight
NO_FAULT = (StoreUnavailable, MemoryError)  # errors that no schedule is paused for
ALLOWANCE = 10 * SECOND  # how late a run may be and still be on time: a loop's longest sleep

log = logging.getLogger(__name__)


class Scheduler:
    """Makes the runs of schedules that are due."""

    def __init__(self, *, store: Store, clock: Clock, random: Random, defects: Defects) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._defects = defects
        # Before any time: the first turn looks for schedules that a past clock left behind.
        self._last_turn: Moment | None = None

    async def tick(self) -> float | None:
        """Fire the due schedules; return when the next one is due."""
        now = self._clock.now()
        try:
            if self._last_turn is None or now < self._last_turn:
                await self._start_stranded_anew(now)
            self._last_turn = now
            due = await self._store.due_schedules(now)
            for start in range(0, len(due), AT_ONCE):
                await self._fire_together(due[start : start + AT_ONCE], now)
            next_at = await self._store.next_schedule_at()
        except StoreUnavailable as exc:
            log.warning("schedules wait for the store", extra={"error": str(exc)})
            return self._clock.monotonic() + STORE_RETRY
        if next_at is None:
            return None
        if next_at <= now:  # an internal error keeps a due schedule from being moved or paused
            return self._clock.monotonic() + STORE_RETRY
        return self._clock.monotonic() + seconds_between(self._clock.now(), next_at)

    async def _fire_together(self, schedules: Sequence[Schedule], now: Moment) -> None:
        """Fire some schedules at once; one that cannot be fired is paused.

        Raises:
            StoreUnavailable: one could not be stored; the others are finished by then.
            MemoryError: there was no room for one; the next turn fires it.
        """
        found: list[tuple[Schedule, Sequence[Moment]]] = []
        for schedule in schedules:
            try:
                found.append((schedule, _due_occurrences(schedule, now)))
            except MemoryError:
                raise
            except Exception as exc:
                await self._pause(schedule, exc, now)
            await asyncio.sleep(0)  # after a long downtime, each schedule takes a while
        work = (self._fire_due(schedule, occurrences, now) for schedule, occurrences in found)
        results = await asyncio.gather(*work, return_exceptions=True)
        for (schedule, _), result in zip(found, results, strict=True):
            if isinstance(result, Exception) and not isinstance(result, NO_FAULT):
                await self._pause(schedule, result, now)
        for result in results:
            if isinstance(result, NO_FAULT):
                raise result

    async def _pause(self, schedule: Schedule, exc: Exception, now: Moment) -> None:
        """Pause a schedule that failed with an internal error, so that the others go on."""
        self._defects.note("schedule paused by an internal error", exc, schedule=schedule.name)

        def paused(known: Schedule | None) -> Schedule | None:
            return known and msgspec.structs.replace(known, paused=True)

        try:
            await self._store.edit_schedule(schedule.name, paused, now=now)
        except StoreUnavailable:
            raise
        except Exception as pausing:  # it stays due, and must not delay the others
            self._defects.note("schedule not paused", pausing, schedule=schedule.name)

    async def _fire_due(
        self, schedule: Schedule, occurrences: Sequence[Moment], now: Moment
    ) -> None:
        next_ones = [*occurrences[1:], following(schedule, after=now)]
        for occurrence, next_at in zip(occurrences, next_ones, strict=True):
            fired = msgspec.structs.replace(
                schedule, last_fired_at=occurrence, next_run_at=next_at
            )
            fields = {"schedule": schedule.name, "occurrence": rfc3339(occurrence)}
            if now - occurrence > _longest_delay(schedule, occurrence, next_at):
                await self._store.move_schedule(fired)
                log.warning("occurrence missed", extra=fields)
                continue
            run = run_of(schedule, now, random=self._random)
            if await self._store.fire(fired, run, now=now):
                schedule = msgspec.structs.replace(schedule, last_task_id=run.id)
                log.info("schedule fired", extra={**fields, "task": run.id})
            else:
                log.info(
                    "occurrence skipped: last run not over, or schedule changed", extra=fields
                )

    async def _start_stranded_anew(self, now: Moment) -> None:
        """Restart schedules that would wait for long since the clock was set back.

        If it was set back by less than a day, this applies only to schedules that fired at a time
        that was never confirmed, so that no occurrence of a correct time is fired twice.
        """
        after, confirmed = Moment(now + DAY), self._clock.latest_confirmed()
        if confirmed is not None:
            after = min(after, Moment(confirmed + MINUTE))
        for stranded in await self._store.stranded_schedules(after):
            try:
                await self._start_anew(stranded, now)
            except NO_FAULT:
                raise
            except Exception as exc:
                await self._pause(stranded, exc, now)

    async def _start_anew(self, stranded: Schedule, now: Moment) -> None:
        schedule = msgspec.structs.replace(
            stranded,
            created_at=min(stranded.created_at, now),
            anchor_at=min(stranded.anchor_at, now),
            last_fired_at=None,
        )
        await self._store.move_schedule(
            msgspec.structs.replace(schedule, next_run_at=following(schedule, after=now))
        )
        log.warning(
            "schedule restarted after the clock was set back",
            extra={"schedule": schedule.name},
        )


def _due_occurrences(schedule: Schedule, now: Moment) -> Sequence[Moment]:
    """Return the occurrences to consider: the latest one, or each of them."""
    if schedule.misfire is Misfire.ALL:
        return missed_occurrences(schedule, now=now)
    latest = latest_occurrence(schedule, now=now)
    return [] if latest is None else [latest]


def _longest_delay(schedule: Schedule, occurrence: Moment, next_at: Moment) -> float:
    """Return the maximum delay of an occurrence in microseconds.

    By default it lasts until the next occurrence, which this run would replace. If every
    occurrence gets a run, no run replaces another.
    """
    if schedule.misfire is Misfire.SKIP:
        return ALLOWANCE
    if schedule.misfire_grace is not None:
        return max(ALLOWANCE, schedule.misfire_grace * SECOND)
    longest = LONGEST_GRACE * SECOND
    return longest if schedule.misfire is Misfire.ALL else min(longest, next_at - occurrence)
