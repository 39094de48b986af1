"""Leasing of due tasks, and the times at which lanes have their next task, lane by lane."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane
from poussetaches.core.responses import QueueCounts
from poussetaches.store.base import Lease, Leased
from poussetaches.store.sqlite.cache import Cache, CachedLane
from poussetaches.store.sqlite.leases import Leases
from poussetaches.store.sqlite.row_reader import Reading, as_list
from poussetaches.store.sqlite.rows import text_of

HIGHEST_PRIORITY = 1_000_000  # above any that is allowed

Waiting = tuple[int, Moment, int]  # a task's number, run_at and priority

_decode_lanes = msgspec.json.Decoder(list[tuple[int, list[Waiting]]]).decode


@dataclass(slots=True, eq=False)
class LaneSearch:
    """The state of the search in one lane: the priority reached, and the tasks found."""

    lane: Lane
    number: int
    wanted: int
    below: int = HIGHEST_PRIORITY
    next_due: Moment | None = None
    candidates: Sequence[Waiting] = ()
    leases: list[Lease] = field(default_factory=list)

    def due(self, now: Moment) -> Sequence[Waiting]:
        """Remove and return the candidates that are wanted and due."""
        wanted = self.wanted - len(self.leases)
        due = [row for row in self.candidates[:wanted] if row[1] <= now]
        self.candidates = self.candidates[len(due) :]
        return due

    def expect(self, run_at: Moment) -> None:
        """Record the due time of a task that is not leased."""
        if self.next_due is None or run_at < self.next_due:
            self.next_due = run_at


class DueTaskSearch:
    """A search for due tasks, without unreadable rows (``skip``) and abandoned tasks."""

    def __init__(self, reading: Reading, cache: Cache, skip: set[int]) -> None:
        self._reading = reading
        self._cache = cache
        self._leases = cache.leases
        self._skip = skip | cache.abandoned if cache.abandoned else skip
        self._expired_by: Moment | None = None

    def lease_due(
        self, lanes: Mapping[Lane, int], now: Moment, *, skip_expired: bool = False
    ) -> Leased:
        """Lease due tasks; return them, and when each lane has its next one."""
        short = self._cache.short_lanes
        if skip_expired:  # which of them have expired shows in the database
            for lane in lanes:
                short.drop(lane)
        self._expired_by = now if skip_expired else None
        searches = [
            LaneSearch(lane, number, wanted)
            for lane, wanted in lanes.items()
            if lane not in short and (number := self._number(lane)) is not None
        ]
        try:
            self._search(searches, now)
        except BaseException:
            for search in searches:
                for lease in search.leases:
                    self._leases.revoke(lease.token)
            raise
        known = lease_known(
            self._cache, {lane: lanes[lane] for lane in lanes if lane in short}, now
        )
        found = {search.lane: search.next_due for search in searches} | known.next_due
        if not skip_expired:
            for lane in lanes:
                if found.get(lane) is None and lane not in short:
                    short.note_empty(lane)
        leases = [lease for search in searches for lease in search.leases]
        return Leased(leases + known.leases, {lane: found.get(lane) for lane in lanes})

    def next_due(self) -> dict[Lane, Moment]:
        """Return when each lane's next task is due."""
        searches = [
            LaneSearch(lane, number, 0) for number, lane in self._reading.lanes("lanes").items()
        ]
        self._search(searches, Moment(0))
        return {one.lane: one.next_due for one in searches if one.next_due is not None}

    def _number(self, lane: Lane) -> int | None:
        """Return the number of a lane; None when no task was ever in it."""
        cached = self._cache.lanes.get(lane)
        if cached is not None:
            return cached.number
        row = self._reading.one("lane", *lane)
        if row is None:
            return None
        self._cache.update_lanes({lane: CachedLane(row[0], Moment(0))})
        number: int = row[0]
        return number

    def _search(self, searches: Sequence[LaneSearch], now: Moment) -> None:
        """Lease the wanted due tasks, from the highest priority of each lane downwards."""
        while searches:
            rows = self._first_waiting(searches)
            searches = [search for search in searches if rows[search.number]]
            for search in searches:
                self._begin(search, rows[search.number])
            # Repeated for lanes with unreadable tasks.
            while due := [(one, row) for one in searches for row in one.due(now)]:
                self._lease(due)
            for search in searches:
                if search.candidates:
                    search.expect(search.candidates[0][1])

    def _begin(self, search: LaneSearch, rows: Sequence[Waiting]) -> None:
        """Start a lane's next priority."""
        search.below = rows[0][2]
        search.candidates = [
            row for row in rows if row[0] not in self._leases and row[0] not in self._skip
        ]

    def _lease(self, due: Sequence[tuple[LaneSearch, Waiting]]) -> None:
        tasks = self._reading.tasks_at([seq for _, (seq, _, _) in due])
        for (search, (seq, run_at, _)), task in zip(due, tasks, strict=True):
            if task is None:
                # Unreadable: the lane may have more due tasks than candidates.
                search.expect(run_at)
                continue
            token = self._leases.take(seq, search.lane, task.attempt_total)
            search.leases.append(Lease(task, token))

    def _first_waiting(self, searches: Sequence[LaneSearch]) -> dict[int, list[Waiting]]:
        """Return the first tasks of each lane's next priority, enough to find the due ones.

        One statement reads many lanes, since each statement releases the interpreter's lock. All
        lanes of a statement get the same limit.
        """
        by_limit: dict[int, list[tuple[int, int]]] = {}
        for search in searches:
            skipped = self._leases.in_lane(search.lane) + len(self._skip)
            limit = 1 << (skipped + search.wanted).bit_length()
            by_limit.setdefault(limit, []).append((search.number, search.below))
        found: dict[int, list[Waiting]] = {}
        for limit, lanes in by_limit.items():
            wanted = msgspec.json.encode(lanes).decode()
            rows = self._rows(limit, wanted)
            assert isinstance(rows, str)
            found.update(_decode_lanes(rows))
        return found

    def _rows(self, limit: int, wanted: str) -> object:
        if self._expired_by is None:
            return self._reading.value("first_waiting", limit, wanted)
        # A separate statement: the other one only reads the index, which has no expires_at.
        [(rows,)] = self._reading.all(
            "first_unexpired", now=self._expired_by, limit=limit, wanted=wanted
        )
        return rows


def lease_known(cache: Cache, lanes: Mapping[Lane, int], now: Moment) -> Leased:
    """Lease due tasks of short lanes; return them, and when each lane has its next one."""
    leases: list[Lease] = []
    next_due: dict[Lane, Moment | None] = {}
    for lane, most in lanes.items():
        for _, seq, task in cache.short_lanes.take(lane, most, now):
            leases.append(Lease(task, cache.leases.take(seq, lane, task.attempt_total)))
        next_due[lane] = cache.short_lanes.next_due(lane)
    return Leased(leases, next_due)


def count_ahead(reading: Reading, leases: Leases, task_id: str, *, now: Moment, limit: int) -> int:
    """Return how many due tasks of its lane come before a waiting task."""
    place = reading.one("place_of_task", task_id)
    if place is None or place[0] in leases:
        return 0
    seq, lane, own_priority, run_at = place
    leased = as_list(leases.numbers())
    count, priority = 0, HIGHEST_PRIORITY
    # By priority, so that delayed tasks of a higher priority are not scanned.
    while count < limit and (row := reading.one("next_priority", lane, priority)):
        priority = row[0]
        if priority < own_priority:
            break
        before = (run_at, seq) if priority == own_priority else (now + 1, 0)
        room = limit - count
        count += reading.number("count_due", lane, priority, now, *before, leased, room)
    return count


def counts(reading: Reading, leases: Leases) -> dict[str, QueueCounts]:
    """Return the counts of every queue."""
    return {
        name: QueueCounts(
            # Between a commit and the end of its leases, a reader counts a lease too many.
            waiting=max(0, waiting - leases.in_queue(name)),
            running=leases.in_queue(name),
            succeeded=succeeded,
            dead=dead,
            failing=failing,
        )
        for name, waiting, failing, succeeded, dead in _counts_by_name(reading)
    }


def _counts_by_name(reading: Reading) -> Iterator[tuple[str, int, int, int, int]]:
    for name, *numbers in reading.all("queues"):
        waiting, failing, succeeded, dead = numbers
        yield text_of(name), waiting, failing, succeeded, dead
