"""The leases of running tasks, kept in memory.

The folder's lock ensures that there is only one process, so leases are not stored: after a crash,
every task without a recorded outcome is waiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from poussetaches.core.queue import Lane


@dataclass(slots=True)
class LeaseRecord:
    """A leased task: its number, its lane, and its attempts when it was leased."""

    seq: int
    lane: Lane
    attempt_total: int
    cancelled: bool = False


class Leases:
    """The leased tasks. Changed only between transactions."""

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
        """Return the record of a token; None if its lease has ended."""
        return self._by_token.get(token)

    def end(self, seq: int) -> None:
        """End the lease of a task, if it has one."""
        token = self._tokens.pop(seq, None)
        if token is None:
            return
        record = self._by_token.pop(token)
        self._by_queue[record.lane.queue] -= 1
        self._by_lane[record.lane] -= 1
        if not self._by_lane[record.lane]:
            del self._by_lane[record.lane]

    def revoke(self, token: int) -> None:
        """End a lease that was not handed out yet."""
        self.end(self._by_token[token].seq)

    def cancel(self, seq: int) -> None:
        """Mark a task as cancelled if it is leased, so that it gets no further attempt."""
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
        """Return the number of leased tasks of a lane."""
        return self._by_lane.get(lane, 0)

    def in_queue(self, queue: str) -> int:
        """Return the number of leased tasks of a queue."""
        return self._by_queue.get(queue, 0)
