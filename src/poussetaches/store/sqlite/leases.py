"""Leases in memory: which tasks are running, known to this process alone.

The folder's lock proves that there is one process, so a lease needs no row: after a crash
everything that was not recorded is simply waiting again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from poussetaches.core.queue import Lane


@dataclass(slots=True)
class Held:
    """What is remembered of a leased task."""

    seq: int
    lane: Lane
    attempt_total: int
    cancelled: bool = False


class Leases:
    """The tasks that are leased. Changed by the store's runner only, after a commit."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._tokens: dict[int, int] = {}
        self._last_token = 0
        self._by_lane: dict[Lane, int] = {}
        self._by_queue: dict[str, int] = {}

    def take(self, seq: int, lane: Lane, attempt_total: int) -> int:
        """Lease a task and return the lease's token."""
        self._last_token += 1
        self._held[self._last_token] = Held(seq, lane, attempt_total)
        self._tokens[seq] = self._last_token
        self._by_lane[lane] = self._by_lane.get(lane, 0) + 1
        self._by_queue[lane.queue] = self._by_queue.get(lane.queue, 0) + 1
        return self._last_token

    def held(self, token: int) -> Held | None:
        """Return what a token stands for; None when the lease is gone."""
        return self._held.get(token)

    def give_up(self, seq: int) -> None:
        """End the lease of a task, if there is one."""
        token = self._tokens.pop(seq, None)
        if token is None:
            return
        held = self._held.pop(token)
        self._by_queue[held.lane.queue] -= 1
        self._by_lane[held.lane] -= 1
        if not self._by_lane[held.lane]:
            del self._by_lane[held.lane]

    def give_back(self, token: int) -> None:
        """End a lease that nobody has heard of."""
        self.give_up(self._held[token].seq)

    def cancel(self, seq: int) -> None:
        """Remember that a task is not to be tried again, if it is leased."""
        if seq in self._tokens:
            self._held[self._tokens[seq]].cancelled = True

    def numbers(self) -> list[int]:
        """Return the numbers of the leased tasks."""
        return list(self._tokens)

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def __contains__(self, seq: int) -> bool:
        return seq in self._tokens

    def in_lane(self, lane: Lane) -> int:
        """How many tasks of a lane are leased."""
        return self._by_lane.get(lane, 0)

    def in_queue(self, queue: str) -> int:
        """How many tasks of a queue are leased."""
        return self._by_queue.get(queue, 0)
