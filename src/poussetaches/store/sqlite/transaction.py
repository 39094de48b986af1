"""One transaction: what is written in it, and what becomes true in memory once it is on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from random import Random
from typing import Literal, get_args

from poussetaches.core.failures import FailureGroup
from poussetaches.core.ids import new_task_id
from poussetaches.core.moment import HOUR, Moment
from poussetaches.core.queue import Lane, Queue
from poussetaches.core.task import Task, TaskState
from poussetaches.store.base import Change, News, TaskChange
from poussetaches.store.sqlite.commit_number import number_commit
from poussetaches.store.sqlite.database import Commit
from poussetaches.store.sqlite.known import Known, KnownLane
from poussetaches.store.sqlite.leases import Held
from poussetaches.store.sqlite.many import write_rows
from poussetaches.store.sqlite.reads import Reading, Unreadable
from poussetaches.store.sqlite.rows import queue_values

Counted = Literal["waiting", "failing", "succeeded", "dead"]
LANE_USE_PRECISION = HOUR  # a write for each task would be one too many

COUNTED: tuple[Counted, ...] = get_args(Counted)


class SqliteTransaction:
    """Writes that become durable together, or not at all."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        sql: Mapping[str, str],
        known: Known,
        *,
        random: Random,
        commit: Commit,
    ) -> None:
        self.connection = connection
        self.sql = sql
        self.news = News()
        self.reading = Reading(connection, sql, self.is_leased)
        self.set_aside: list[Unreadable] = []
        self._known = known
        self._random = random
        self._commit = commit
        self._lanes: dict[Lane, KnownLane | None] = {}
        self._groups: dict[str, bool] = {}
        self._counts: dict[str, dict[Counted, int]] = {}
        self._given_up: set[int] = set()
        self._cancelled: set[int] = set()
        connection.execute("BEGIN IMMEDIATE")

    def new_id(self, now: Moment) -> str:
        """Return an id for a task that the store itself makes."""
        return new_task_id(now, self._random)

    # Counts and news

    def count(self, queue: str, what: Counted, change: int) -> None:
        """Add to a queue's counts."""
        counts = self._counts.setdefault(queue, {})
        counts[what] = counts.get(what, 0) + change

    def counts(self, queue: str) -> dict[Counted, int]:
        """Return a queue's counts as this transaction leaves them."""
        row = self.connection.execute(self.sql["queue_counts"], (queue,)).fetchone()
        stored = row or (0,) * len(COUNTED)
        added = self._counts.get(queue, {})
        return {what: stored[place] + added.get(what, 0) for place, what in enumerate(COUNTED)}

    def task_waits(self, lane: Lane, run_at: Moment) -> None:
        """Have listeners told of a waiting task."""
        known = self.news.waits.get(lane)
        if known is None or run_at < known:
            self.news.waits[lane] = run_at

    def task_changed(self, task: Task, change: Change, state: TaskState | None) -> None:
        """Have listeners told of what happened to a task."""
        self.news.tasks.append(TaskChange(task.id, task.queue, change, state))

    # Leases

    def is_leased(self, seq: int) -> bool:
        """Tell whether a task is leased, as this transaction leaves it."""
        return seq in self._known.leases and seq not in self._given_up

    def leased(self) -> list[int]:
        """Return the numbers of the leased tasks, as this transaction leaves them."""
        return [seq for seq in self._known.leases.numbers() if seq not in self._given_up]

    def give_up(self, seq: int) -> None:
        """Have a lease ended."""
        self._given_up.add(seq)

    def cancel(self, seq: int) -> None:
        """Have a leased task not tried again."""
        self._cancelled.add(seq)

    def held(self, token: int) -> Held | None:
        """Return what a lease stands for, unless it is gone."""
        held = self._known.leases.held(token)
        return None if held is None or held.seq in self._given_up else held

    def is_cancelled(self, held: Held) -> bool:
        """Tell whether a leased task is not to be tried again."""
        return held.cancelled or held.seq in self._cancelled

    # Queues, lanes and failure groups

    def queue(self, name: str) -> Queue | None:
        """Return a queue as this transaction leaves it."""
        if name in self.news.queues:
            return self.news.queues[name]
        return self._known.queues.get(name)

    def put_queue(self, queue: Queue) -> None:
        """Keep a queue, new or changed."""
        self.connection.execute(self.sql["put_queue"], queue_values(queue))
        self.news.queues[queue.name] = queue

    def forget_queue(self, name: str) -> None:
        """Delete a queue that has no tasks, with its lanes."""
        for lane in [lane for lane in (*self._known.lanes, *self._lanes) if lane.queue == name]:
            self._lanes[lane] = None
        self.connection.execute(self.sql["delete_lanes_of"], (name,))
        self.connection.execute(self.sql["delete_queue"], (name,))
        self.news.queues[name] = None

    def lane_number(self, lane: Lane, used_at: Moment) -> int:
        """Return the number of a lane, making the lane and its queue when they are new."""
        known = self._lanes[lane] if lane in self._lanes else self._known.lanes.get(lane)
        if known is None or used_at - known.used_at > LANE_USE_PRECISION:
            known = self._lanes[lane] = KnownLane(self._use_lane(lane, used_at), used_at)
        return known.number

    def forget_lane(self, lane: Lane, number: int) -> None:
        """Delete a lane that no task waits in."""
        self.connection.execute(self.sql["delete_lane"], (number,))
        self._lanes[lane] = None

    def group_id(self, group: FailureGroup) -> str:
        """Return the id of a failure group, keeping the group when it is new."""
        id = group.id
        if not self._groups.get(id, id in self._known.groups):
            values = (id, group.queue, group.url_path, group.status, group.error)
            if self.connection.execute(self.sql["add_failure_group"], values).rowcount:
                self.news.groups.append(group)
            self._groups[id] = True
        return id

    def forget_group(self, id: str) -> None:
        """Delete a failure group that has no tasks."""
        self.connection.execute(self.sql["delete_failure_group"], (id,))
        self._groups[id] = False

    # The end

    def commit(self) -> None:
        """Make it durable, then let it be seen in memory."""
        added = [
            (queue, *[changes.get(what, 0) for what in COUNTED])
            for queue, changes in self._counts.items()
            if any(changes.values())
        ]
        write_rows(self.connection, self.sql["count"], added)
        number_commit(self.connection)
        self._commit(self.connection)
        self._known.learn_queues(self.news.queues)
        self._known.learn_lanes(self._lanes)
        self._known.learn_groups(self._groups)
        for seq in self._given_up:
            self._known.leases.give_up(seq)
        for seq in self._cancelled:
            self._known.leases.cancel(seq)

    def rollback(self) -> None:
        """Undo it."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is beyond use; recovering opens a new one.
            return

    def _use_lane(self, lane: Lane, used_at: Moment) -> int:
        if self.queue(lane.queue) is None:
            self.put_queue(Queue(name=lane.queue))
        row = self.connection.execute(self.sql["use_lane"], (*lane, used_at)).fetchone()
        number: int = row[0]
        return number
