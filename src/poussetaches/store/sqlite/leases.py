"""Leases in memory: which tasks are running, known to this process alone.

The folder's lock proves that there is one process, so a lease needs no row: after a crash
everything that was not recorded is simply waiting again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from poussetaches.core.queue import Lane


@dataclass(slots=True)
class LeaseRecord:
    """What is remembered of a leased task."""

    seq: int
    lane: Lane
    attempt_total: int
    cancelled: bool = False


class Leases:
    """The tasks that are leased. Changed by the store's runner only, after a commit."""

    def __init__(self) -> None:
        self._by_token: dict[int, LeaseRecord] = {}
        self._tokens: dict[int, int] = {}
        self._last_token = 0
        self._by_lane: dict[Lane, int] = {}
        self._by_queue: dict[str, int] = {}

    def take(self, seq: int, lane: Lane, attempt_total: int) -> int:
        """Lease a task and return the lease's token."""
        self._last_token += 1
        self._by_token[self._last_token] = LeaseRecord(seq, lane, attempt_total)
        self._tokens[seq] = self._last_token
        self._by_lane[lane] = self._by_lane.get(lane, 0) + 1
        self._by_queue[lane.queue] = self._by_queue.get(lane.queue, 0) + 1
        return self._last_token

    def find(self, token: int) -> LeaseRecord | None:
        """Return what a token stands for; None when the lease is gone."""
        return self._by_token.get(token)

    def give_up(self, seq: int) -> None:
        """End the lease of a task, if there is one."""
        token = self._tokens.pop(seq, None)
        if token is None:
            return
        record = self._by_token.pop(token)
        self._by_queue[record.lane.queue] -= 1
        self._by_lane[record.lane] -= 1
        if not self._by_lane[record.lane]:
            del self._by_lane[record.lane]

    def give_back(self, token: int) -> None:
        """End a lease that nobody has heard of."""
        self.give_up(self._by_token[token].seq)

    def cancel(self, seq: int) -> None:
        """Remember that a task is not to be tried again, if it is leased."""
        if seq in self._tokens:
            self._by_token[self._tokens[seq]].cancelled = True

    def numbers(self) -> list[int]:
        """Return the numbers of the leased tasks."""
        return list(self._tokens)

    def __len__(self) -> int:
        return len(self._by_token)

    def __iter__(self) -> Iterator[LeaseRecord]:
        return iter(list(self._by_token.values()))

    def __contains__(self, seq: int) -> bool:
        return seq in self._tokens

    def in_lane(self, lane: Lane) -> int:
        """How many tasks of a lane are leased."""
        return self._by_lane.get(lane, 0)

    def in_queue(self, queue: str) -> int:
        """How many tasks of a queue are leased."""
        return self._by_queue.get(queue, 0)
