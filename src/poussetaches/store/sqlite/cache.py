"""The cache of leases, queues, lanes and failure groups, which saves most queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane, Queue
from poussetaches.store.sqlite.leases import Leases
from poussetaches.store.sqlite.short_lanes import ShortLanes

MAX_LANES = 50_000
MAX_GROUPS = 50_000


class CachedLane(NamedTuple):
    """A lane's number, and the stored time of its last use."""

    number: int
    used_at: Moment


@dataclass(slots=True)
class Cache:
    """Changed only between transactions."""

    leases: Leases = field(default_factory=Leases)
    queues: dict[str, Queue] = field(default_factory=dict)  # complete
    lanes: dict[Lane, CachedLane] = field(default_factory=dict)  # incomplete
    groups: set[str] = field(default_factory=set)  # ids; incomplete
    short_lanes: ShortLanes = field(default_factory=ShortLanes)
    # Numbers of tasks whose rows could neither be buried nor set aside.
    abandoned: set[int] = field(default_factory=set)

    def clear_rows(self) -> None:
        """Remove lanes, their tasks and failure groups from the cache."""
        self.lanes.clear()
        self.short_lanes.clear()
        self.groups.clear()

    def update_queues(self, changed: Mapping[str, Queue | None]) -> None:
        """Update queues; None removes one."""
        for name, queue in changed.items():
            if queue is None:
                self.queues.pop(name, None)
            else:
                self.queues[name] = queue

    def update_lanes(self, changed: Mapping[Lane, CachedLane | None]) -> None:
        """Update lanes; None removes one. If there are too many, clear the cache first."""
        if len(self.lanes) > MAX_LANES:
            self.lanes.clear()
        for lane, cached in changed.items():
            if cached is None:
                self.lanes.pop(lane, None)
            else:
                self.lanes[lane] = cached

    def update_groups(self, changed: Mapping[str, bool]) -> None:
        """Add or remove failure groups. If there are too many, clear the cache first."""
        if len(self.groups) > MAX_GROUPS:
            self.groups.clear()
        for group, is_there in changed.items():
            if is_there:
                self.groups.add(group)
            else:
                self.groups.discard(group)
