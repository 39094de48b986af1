"""``RoomBudget``: the room that is left while attempts are promised to lanes."""

from __future__ import annotations

from poussetaches.engine.lane_state import LaneState, QueueState, Share
from poussetaches.engine.limits import Limits, room_in


class RoomBudget:
    """The room that is left in one round of turns, in which no promised attempt has started.

    ``server_room`` is how many attempts the server may start in all.
    """

    def __init__(self, limits: Limits, *, server_room: int) -> None:
        self._limits = limits
        self._server_room = server_room
        self._slots: dict[Share, int] = {}  # in flight or promised
        self._queue_rooms: dict[str, int] = {}
        self._share_rooms: dict[Share, int] = {}
        self._origin_rooms: dict[str, int] = {}  # shared by all queues
        self._promised_origins: set[str] = set()
        self.promised_to: dict[str, QueueState] = {}
        self.passed_over: list[LaneState] = []

    def queue_room(self, queue: QueueState) -> int:
        """Return how many more attempts of a queue may be promised to all origins."""
        room = self._queue_rooms.get(queue.name)
        if room is None:
            room = self._queue_rooms[queue.name] = room_in(self._limits.of_queue(queue))
        return room

    def lane_room(self, queue: QueueState, state: LaneState) -> int:
        """Return how many more attempts of a lane its origin's limits allow to promise."""
        if self._limits.of_pauses(state.lane):
            return 0
        share = state.share
        room = self._share_rooms.get(share)
        if room is None:
            room = self._share_rooms[share] = room_in(self._limits.of_share(queue, share))
            self._slots[share] = share.in_flight
        of_origin = self._origin_rooms.get(share.origin)
        if of_origin is None:
            of_origin = room_in(self._limits.of_origin(share.origin))
            self._origin_rooms[share.origin] = of_origin
        return min(room, of_origin)

    def has_even_part(self, queue: QueueState, state: LaneState) -> bool:
        """Return whether a lane's origin holds as many slots as if all due lanes held the same."""
        slots = min(self._limits.slots(queue), queue.in_flight + self._server_room)
        return self._slots[state.share] * len(queue.due) >= slots

    def promise(self, queue: QueueState, state: LaneState, count: int) -> None:
        """Promise attempts to a lane that has room for them."""
        self._queue_rooms[queue.name] -= count
        self._share_rooms[state.share] -= count
        self._slots[state.share] += count
        self._origin_rooms[state.share.origin] -= count
        self._promised_origins.add(state.share.origin)
        self.promised_to[queue.name] = queue

    def pass_over(self, state: LaneState) -> None:
        """Remember a lane that has no room left only if the promised attempts do start."""
        if state.share.origin in self._promised_origins:
            self.passed_over.append(state)
