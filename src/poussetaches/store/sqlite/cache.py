"""What the store remembers of its database, so that most writes need not look it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane, Queue
from poussetaches.store.sqlite.leases import Leases

MAX_LANES = 50_000
MAX_GROUPS = 50_000


class CachedLane(NamedTuple):
    """A lane's number, and when it is known to have been used."""

    number: int
    used_at: Moment


@dataclass(slots=True)
class Cache:
    """Leases, queues, lanes and failure groups. Changed by the store's runner, outside commits."""

    leases: Leases = field(default_factory=Leases)
    queues: dict[str, Queue] = field(default_factory=dict)  # all of them
    lanes: dict[Lane, CachedLane] = field(default_factory=dict)  # some of those on disk
    groups: set[str] = field(default_factory=set)  # ids of some of those on disk
    abandoned: set[int] = field(
        default_factory=set
    )  # numbers of tasks that could not even be set aside

    def clear_rows(self) -> None:
        """Forget which lanes and failure groups are there: they are looked up again."""
        self.lanes.clear()
        self.groups.clear()

    def update_queues(self, changed: Mapping[str, Queue | None]) -> None:
        """Remember queues as they are now; None is for one that is gone."""
        for name, queue in changed.items():
            if queue is None:
                self.queues.pop(name, None)
            else:
                self.queues[name] = queue

    def update_lanes(self, changed: Mapping[Lane, CachedLane | None]) -> None:
        """Remember lanes within bounds; None is for one that is gone."""
        if len(self.lanes) > MAX_LANES:
            self.lanes.clear()
        for lane, cached in changed.items():
            if cached is None:
                self.lanes.pop(lane, None)
            else:
                self.lanes[lane] = cached

    def update_groups(self, changed: Mapping[str, bool]) -> None:
        """Remember within bounds which failure groups are there."""
        if len(self.groups) > MAX_GROUPS:
            self.groups.clear()
        for group, is_there in changed.items():
            if is_there:
                self.groups.add(group)
            else:
                self.groups.discard(group)
