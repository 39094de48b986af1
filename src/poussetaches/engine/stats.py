"""``Stats``: counts of events per minute and queue, and since the start."""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from array import array
from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from random import Random

import msgspec

from poussetaches.core.errors import StoreUnavailable
from poussetaches.core.moment import DAY, MINUTE, SECOND, Moment
from poussetaches.core.task import Attempt, Task
from poussetaches.engine.clock import Clock
from poussetaches.store.base import Change, News, Store
from poussetaches.store.minute_row import MinuteRow

ALL_QUEUES = ""  # no queue can have this name
MOST_QUEUES = 100  # kept by name for a minute; the others count for all queues only
MOST_SAMPLES = 500  # of one span, in one queue and minute: 95 percent is then right to within 2
COUNTS = ("pushed", "started", "succeeded", "failed", "died")
SPANS = ("lateness_p50", "lateness_p95", "duration_p50", "duration_p95")

log = logging.getLogger(__name__)


class Totals(msgspec.Struct, kw_only=True):
    """Counts since the start. Attempts are counted when they end."""

    pushed: int = 0
    succeeded: int = 0
    failed: int = 0
    put_back: int = 0  # attempts that did not count
    repeated: int = 0  # requests of attempts, sent again since an idle connection was closed
    died: int = 0


class Stats:
    """Counts attempts and commits, and stores a row for each minute.

    Counts are always added to those in the store for the same minute: a
    server that starts again within a minute, or whose clock is set back, loses nothing.
    """

    def __init__(self, *, store: Store, clock: Clock, random: Random) -> None:
        self.totals = Totals()
        self._store = store
        self._clock = clock
        self._random = random
        self._open = MinuteTally(_minute_of(clock.now()))
        self._over: dict[Moment, list[MinuteRow]] = {}  # minutes that are not stored yet
        self._writing = asyncio.Lock()  # so that no reader misses rows that are being written

    def attempt_started(self, task: Task, *, now: Moment) -> None:
        """Count an attempt that starts, and how late it is."""
        lateness = max(0.0, (now - task.run_at) / SECOND)
        for tally in self._tallies(task.queue, now):
            tally.started += 1
            tally.lateness.add(lateness, self._random)

    def attempt_ended(self, task: Task, attempt: Attempt, *, now: Moment) -> None:
        """Count an attempt, and how long it took."""
        if attempt.succeeded:
            self.totals.succeeded += 1
        else:
            self.totals.failed += 1
        for tally in self._tallies(task.queue, now):
            tally.duration.add(attempt.duration, self._random)
            if attempt.succeeded:
                tally.succeeded += 1
            else:
                tally.failed += 1

    def attempt_put_back(self, task: Task) -> None:
        """Count an attempt that was put back."""
        self.totals.put_back += 1

    def request_repeated(self) -> None:
        """Count a request that was sent again within its attempt."""
        self.totals.repeated += 1

    def committed(self, news: News) -> None:
        """Count pushed tasks and dead ones."""
        now = self._clock.now()
        happened = Counter(map(attrgetter("queue", "change"), news.tasks))
        for (queue, change), count in happened.items():
            if change is Change.PUSHED:
                self.totals.pushed += count
                for tally in self._tallies(queue, now):
                    tally.pushed += count
            elif change is Change.DIED:
                self.totals.died += count
                for tally in self._tallies(queue, now):
                    tally.died += count

    async def tick(self) -> float | None:
        """Store the minutes that are over; return when the next one ends."""
        now = self._clock.now()
        self._turn_to(_minute_of(now))
        if self._over and self._store.trouble is None:
            await self._write()
        return self._clock.monotonic() + (MINUTE - now % MINUTE) / SECOND

    async def flush(self) -> None:
        """Store all counts, including the current minute."""
        self._close()
        await self._write()

    async def rows(self, queue: str, *, minutes: int) -> list[MinuteRow]:
        """Return a row for each of the latest minutes, oldest first; the last is the current one.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        latest = _minute_of(self._clock.now())
        since = Moment(latest - (minutes - 1) * MINUTE)
        async with self._writing:
            found = {row.minute: row for row in await self._store.minutes(queue, since=since)}
            waiting = [row for rows in self._over.values() for row in rows if row.queue == queue]
        for row in [*waiting, *self._open.rows_of(queue)]:
            found[row.minute] = added(found.get(row.minute), row)
        moments = (Moment(since + place * MINUTE) for place in range(minutes))
        return [found.get(minute) or MinuteRow(minute=minute, queue=queue) for minute in moments]

    def _tallies(self, queue: str, now: Moment) -> tuple[Tally, Tally]:
        self._turn_to(_minute_of(now))
        return self._open.all, self._open.of(queue)

    def _turn_to(self, minute: Moment) -> None:
        if minute != self._open.minute:
            self._close()
            self._open = MinuteTally(minute)

    def _close(self) -> None:
        """Close the minute so far; later counts of it are added."""
        minute, rows = self._open.minute, self._open.rows()
        self._open = MinuteTally(minute)
        if rows:
            self._over[minute] = summed(self._over.get(minute, []), rows)
        # A store that cannot be written for days must not fill the memory.
        for old in [known for known in self._over if known <= minute - DAY]:
            del self._over[old]

    async def _write(self) -> None:
        async with self._writing:
            for minute in sorted(self._over):
                try:
                    rows = await self._with_kept(minute, self._over[minute])
                    await self._store.put_minutes(rows)
                except StoreUnavailable as exc:
                    log.debug("statistics wait for the store", extra={"error": str(exc)})
                    return
                del self._over[minute]

    async def _with_kept(self, minute: Moment, rows: list[MinuteRow]) -> list[MinuteRow]:
        """Return rows added to the stored ones of their minute, which remain after a restart."""
        if not await self._kept(ALL_QUEUES, minute):
            return rows
        kept = [row for more in rows for row in await self._kept(more.queue, minute)]
        return summed(kept, rows)

    async def _kept(self, queue: str, minute: Moment) -> list[MinuteRow]:
        rows = await self._store.minutes(queue, since=minute)
        return [row for row in rows if row.minute == minute]


class MinuteTally:
    """Counts one minute, in all queues and in each."""

    def __init__(self, minute: Moment) -> None:
        self.minute = minute
        self.all = Tally()
        self._queues: dict[str, Tally] = {}

    def of(self, queue: str) -> Tally:
        """Return the tally of a queue."""
        tally = self._queues.get(queue)
        if tally is None:
            tally = self._queues[queue] = Tally()
        return tally

    def rows(self) -> list[MinuteRow]:
        """Return a row for all queues and one for each of the busiest; none if it was quiet."""
        if not self._queues:
            return []
        busiest = heapq.nlargest(
            MOST_QUEUES, self._queues.items(), key=lambda item: _activity(item[1])
        )
        every = [(ALL_QUEUES, self.all), *busiest]
        return [tally.row(self.minute, queue) for queue, tally in every]

    def rows_of(self, queue: str) -> list[MinuteRow]:
        """Return the row of one queue, if it was not quiet."""
        tally = self.all if queue == ALL_QUEUES else self._queues.get(queue)
        return [] if tally is None else [tally.row(self.minute, queue)]


class Tally:
    """The counts of one minute, of a queue or of all."""

    __slots__ = ("died", "duration", "failed", "lateness", "pushed", "started", "succeeded")

    def __init__(self) -> None:
        self.pushed = 0
        self.started = 0
        self.succeeded = 0
        self.failed = 0
        self.died = 0
        self.lateness = Sample()
        self.duration = Sample()

    def row(self, minute: Moment, queue: str) -> MinuteRow:
        """Return the counts as a row."""
        return MinuteRow(
            minute=minute,
            queue=queue,
            **{name: getattr(self, name) for name in COUNTS},
            lateness_p50=self.lateness.percentile(50),
            lateness_p95=self.lateness.percentile(95),
            duration_p50=self.duration.percentile(50),
            duration_p95=self.duration.percentile(95),
        )


class Sample:
    """A random sample of the added values, with equal probability."""

    __slots__ = ("_count", "_values")

    def __init__(self) -> None:
        self._count = 0
        self._values = array("d")

    def add(self, value: float, random: Random) -> None:
        """Add a value, which may replace another."""
        self._count += 1
        if len(self._values) < MOST_SAMPLES:
            self._values.append(value)
            return
        place = int(random.random() * self._count)
        if place < MOST_SAMPLES:
            self._values[place] = value

    def percentile(self, percent: int) -> float | None:
        """Return the smallest value that this share of the values does not exceed."""
        if not self._values:
            return None
        rank = math.ceil(percent * len(self._values) / 100)
        return sorted(self._values)[rank - 1]


def summed(kept: Iterable[MinuteRow], more: Iterable[MinuteRow]) -> list[MinuteRow]:
    """Return the rows of one minute, each queue's added up; no more than are kept of a minute."""
    rows = {row.queue: row for row in kept}
    for row in more:
        rows[row.queue] = added(rows.get(row.queue), row)
    every = rows.pop(ALL_QUEUES)
    return [every, *heapq.nlargest(MOST_QUEUES, rows.values(), key=_activity)]


def added(kept: MinuteRow | None, more: MinuteRow) -> MinuteRow:
    """Return the sum of two parts of a minute; its percentiles are the busier part's."""
    if kept is None:
        return more
    sums = {name: getattr(kept, name) + getattr(more, name) for name in COUNTS}
    other, busier = sorted((kept, more), key=_attempt_count)
    spans = {name: getattr(busier if _has(busier, name) else other, name) for name in SPANS}
    return msgspec.structs.replace(kept, **sums, **spans)


def _activity(counts: MinuteRow | Tally) -> int:
    return sum(getattr(counts, name) for name in COUNTS)


def _attempt_count(row: MinuteRow) -> int:
    return row.started + row.succeeded + row.failed


def _has(row: MinuteRow, span: str) -> bool:
    return getattr(row, span) is not None


def _minute_of(moment: Moment) -> Moment:
    return Moment(moment - moment % MINUTE)
