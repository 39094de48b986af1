"""The state of queues, of their lanes, and of the shares that origins have in a queue."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from poussetaches.core.moment import Moment
from poussetaches.core.queue import Lane


@dataclass(slots=True, eq=False)
class Share:
    """The part of a queue that goes to one origin; all lanes that lead there share its limits."""

    queue: str
    origin: str  # empty for paths without a base URL
    lanes: dict[Lane, LaneState] = field(default_factory=dict)
    in_flight: int = 0
    asked_to_wait_until: float = 0.0  # monotonic

    def was_used_since(self, moment: Moment) -> bool:
        """Return whether it had a task since a moment, or has an attempt in flight."""
        return self.in_flight > 0 or any(state.used_at >= moment for state in self.lanes.values())


@dataclass(slots=True, eq=False)
class LaneState:
    """The state of one lane."""

    lane: Lane
    share: Share
    used_at: Moment
    next_due: Moment | None = None
    added_due: Moment | None = None  # the earliest task added during a lookup in the store
    last_turn: int = 0


@dataclass(slots=True, eq=False)
class QueueState:
    """The state of one queue: its lanes, and which of them are due.

    Due lanes that could not start an attempt in their turn are set aside until something changes,
    so that later turns do not have to skip them.
    """

    name: str
    lanes: dict[Lane, LaneState] = field(default_factory=dict)
    shares: dict[str, Share] = field(default_factory=dict)  # by origin
    due: OrderedDict[Lane, LaneState] = field(default_factory=OrderedDict)  # in turn
    aside: dict[Lane, LaneState] = field(default_factory=dict)
    in_flight: int = 0
    opens_at: float | None = None  # monotonic; when the rate allows the next attempt

    def is_due(self, lane: Lane) -> bool:
        """Return whether a task of a lane is due, whether it may start or not."""
        return lane in self.due or lane in self.aside

    def due_states(self) -> Iterator[LaneState]:
        """Yield its lanes that have a due task."""
        yield from self.due.values()
        yield from self.aside.values()

    def share_of(self, origin: str) -> Share:
        """Return the share of an origin, which is created if it has none."""
        share = self.shares.get(origin)
        if share is None:
            share = self.shares[origin] = Share(self.name, origin)
        return share
