"""One transaction: what is written in it, and what becomes true in memory once it is on disk."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.queue import Lane
from poussetaches.store.sqlite.database import Commit
from poussetaches.store.sqlite.leases import Held, Leases

Counted = Literal["waiting", "failing", "succeeded", "dead"]
LANES_REMEMBERED = 50_000
LANE_USE_PRECISION = HOUR  # a write for each task would be one too many

COUNTED: tuple[Counted, ...] = get_args(Counted)


class KnownLane(NamedTuple):
    """A lane's number, and when it is known to have been used."""

    number: int
    used_at: Moment


class KnownLanes:
    """The lanes that are on disk. Changed after a commit only."""

    def __init__(self) -> None:
        self.of: dict[Lane, KnownLane] = {}

    def update(self, lanes: Mapping[Lane, KnownLane]) -> None:
        """Remember more lanes, within bounds."""
        if len(self.of) > LANES_REMEMBERED:
            self.of.clear()
        self.of.update(lanes)


class SqliteTransaction:
    """Writes that become durable together, or not at all."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        sql: Mapping[str, str],
        leases: Leases,
        lanes: KnownLanes,
        commit: Commit,
    ) -> None:
        self.connection = connection
        self.sql = sql
        self.leases = leases
        self.waits: dict[Lane, Moment] = {}
        self.schedules_changed = False
        self.paused: bool | None = None
        self._commit = commit
        self._lanes = lanes
        self._new_lanes: dict[Lane, KnownLane] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._given_up: set[int] = set()
        self._cancelled: set[int] = set()
        connection.execute("BEGIN IMMEDIATE")

    def count(self, queue: str, what: Counted, change: int) -> None:
        """Add to a queue's counts."""
        counts = self._counts.setdefault(queue, Counter())
        counts[what] += change

    def pending(self, queue: str, what: Counted) -> int:
        """Return what was added so far to one of a queue's counts, and is not in its row yet."""
        return self._counts.get(queue, Counter())[what]

    def task_waits(self, lane: Lane, run_at: Moment) -> None:
        """Have the listener told of a waiting task."""
        self.waits[lane] = min(run_at, self.waits.get(lane, run_at))

    def is_leased(self, seq: int) -> bool:
        """Tell whether a task is leased, as this transaction leaves it."""
        return seq in self.leases and seq not in self._given_up

    def give_up(self, seq: int) -> None:
        """Have a lease ended."""
        self._given_up.add(seq)

    def cancel(self, seq: int) -> None:
        """Have a leased task not tried again."""
        self.connection.execute(self.sql["cancel_task"], (seq,))
        self._cancelled.add(seq)

    def held(self, token: int) -> Held | None:
        """Return what a lease stands for, unless it is gone."""
        held = self.leases.held(token)
        return None if held is None or held.seq in self._given_up else held

    def is_cancelled(self, held: Held) -> bool:
        """Tell whether a leased task is not to be tried again."""
        return held.cancelled or held.seq in self._cancelled

    def lane_number(self, lane: Lane, used_at: Moment) -> int:
        """Return the number of a lane, making the lane and its queue when they are new."""
        known = self._new_lanes.get(lane) or self._lanes.of.get(lane)
        if known is None or used_at - known.used_at > LANE_USE_PRECISION:
            number = self._use_lane(lane, used_at)
            known = self._new_lanes[lane] = KnownLane(number, used_at)
        return known.number

    def commit(self) -> None:
        """Make it durable, then let it be seen in memory."""
        for queue, changes in self._counts.items():
            if any(changes.values()):
                added = (changes[what] for what in COUNTED)
                self.connection.execute(self.sql["count"], (*added, queue))
        self._commit(self.connection)
        self._lanes.update(self._new_lanes)
        for seq in self._given_up:
            self.leases.give_up(seq)
        for seq in self._cancelled:
            self.leases.cancel(seq)

    def rollback(self) -> None:
        """Undo it."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is beyond use; recovering opens a new one.
            return

    def _use_lane(self, lane: Lane, used_at: Moment) -> int:
        self.connection.execute(self.sql["add_queue"], (lane.queue,))
        row = self.connection.execute(self.sql["use_lane"], (*lane, used_at)).fetchone()
        number: int = row[0]
        return number
