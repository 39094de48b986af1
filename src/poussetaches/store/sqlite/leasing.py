"""Leasing due tasks, and looking at what is due next, lane by lane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane, QueueCounts
from poussetaches.core.task import Task
from poussetaches.store.base import Lease, Leased
from poussetaches.store.sqlite.known import Known, KnownLane
from poussetaches.store.sqlite.leases import Leases
from poussetaches.store.sqlite.reads import Reading
from poussetaches.store.sqlite.rows import Row

HIGHEST_PRIORITY = 1_000_000  # above any that is allowed


class Leasing:
    """One look at what is due, over a reading; ``skip`` are rows known to be unreadable."""

    def __init__(self, reading: Reading, known: Known, skip: set[int]) -> None:
        self._reading = reading
        self._known = known
        self._leases = known.leases
        self._skip = skip

    def lease_due(self, lanes: Mapping[Lane, int], now: Moment) -> Leased:
        """Lease due tasks."""
        leased = Leased([], {})
        try:
            for lane, wanted in lanes.items():
                number = self._number(lane)
                leased.next_due[lane] = (
                    None if number is None else self._lease_in(lane, number, wanted, now, leased)
                )
        except BaseException:
            for lease in leased.leases:
                self._leases.give_back(lease.token)
            raise
        return leased

    def next_due(self) -> dict[Lane, Moment]:
        """Return when each lane's next task is due."""
        found = {}
        for number, queue, origin, forced in self._reading.all("lanes"):
            lane = Lane(queue, origin, bool(forced))
            run_at = self._lease_in(lane, number, 0, Moment(0), Leased([], {}))
            if run_at is not None:
                found[lane] = run_at
        return found

    def _number(self, lane: Lane) -> int | None:
        """Return the number of a lane; None when no task was ever in it."""
        known = self._known.lanes.get(lane)
        if known is not None:
            return known.number
        row = self._reading.one("lane", *lane)
        if row is None:
            return None
        self._known.learn_lanes({lane: KnownLane(row[0], Moment(0))})
        number: int = row[0]
        return number

    def _lease_in(
        self, lane: Lane, number: int, wanted: int, now: Moment, leased: Leased
    ) -> Moment | None:
        """Lease up to ``wanted`` due tasks of a lane; return when the next one is due."""
        next_due: Moment | None = None
        priority = HIGHEST_PRIORITY
        passed_over = self._leases.in_lane(lane) + len(self._skip)
        while rows := self._reading.all(
            "first_waiting", number, priority, passed_over + wanted + 1
        ):
            priority = rows[0][2]
            candidates = [
                row for row in rows if row[0] not in self._leases and row[0] not in self._skip
            ]
            while wanted and candidates and candidates[0][1] <= now:
                due = [row for row in candidates[:wanted] if row[1] <= now]
                candidates = candidates[len(due) :]
                for (seq, run_at, _), task in zip(due, self._read(due), strict=True):
                    if task is None:
                        # Unreadable: there may be more of the lane than was looked at.
                        next_due = _earliest(next_due, run_at)
                        continue
                    token = self._leases.take(seq, lane, task.attempt_total)
                    leased.leases.append(Lease(task, token))
                    wanted -= 1
            if candidates:
                next_due = _earliest(next_due, candidates[0][1])
        return next_due

    def _read(self, rows: Sequence[Row]) -> list[Task | None]:
        return self._reading.tasks_at([row[0] for row in rows])


def _earliest(known: Moment | None, moment: Moment) -> Moment:
    return moment if known is None else min(known, moment)


def count_ahead(reading: Reading, leases: Leases, task_id: str, *, now: Moment, limit: int) -> int:
    """Return how many due tasks of its lane come before a waiting task."""
    place = reading.one("place_of_task", task_id)
    if place is None or place[0] in leases:
        return 0
    seq, lane, own_priority, run_at = place
    leased = msgspec.json.encode(leases.numbers()).decode()
    count, priority = 0, HIGHEST_PRIORITY
    # By priorities: delayed tasks of a higher one must not be stepped over one by one.
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
            # Between a commit and the end of its leases, a reader sees a lease too many.
            waiting=max(0, waiting - leases.in_queue(name)),
            running=leases.in_queue(name),
            succeeded=succeeded,
            dead=dead,
            failing=failing,
        )
        for name, waiting, failing, succeeded, dead in reading.all("queues")
    }
