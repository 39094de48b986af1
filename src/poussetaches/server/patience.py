"""``Patience``: how many connections there may be, and how long they may keep the server waiting.

Connections cost memory and file descriptors, of which ``descriptors`` gives them some. When there
are too many, those that have kept the server waiting longest make room.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

INTERVAL = 5.0  # seconds between two looks
LONGEST_WAIT = 27  # looks: above the two minutes that a batch may take


class Connection(Protocol):
    """What one is waited for on; ``age`` counts the looks since it last got anywhere."""

    age: int

    @property
    def waits_for_client(self) -> bool:
        """Tell whether there is nothing that the server could do on this connection."""

    def give_up(self) -> None:
        """Close a connection that has been waited for long enough."""

    def turn_away(self) -> None:
        """Close a connection for which there is no room."""


class Patience:
    """Looks after the connections of one server."""

    def __init__(self, *, most: int, longest: int = LONGEST_WAIT) -> None:
        self._most = most
        self.longest = longest  # looks
        self._connections: dict[Connection, None] = {}  # in the order in which they came
        self._timer: asyncio.TimerHandle | None = None

    def came(self, connection: Connection) -> None:
        """Look after one more connection."""
        if len(self._connections) >= self._most and not self._make_room():
            connection.turn_away()
            return
        self._connections[connection] = None
        if self._timer is None:
            self._plan()

    def went(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.pop(connection, None)

    def look(self) -> None:
        """Give up the connections that have been waited for long enough."""
        for connection in list(self._connections):
            if not connection.waits_for_client:
                connection.age = 0
                continue
            connection.age += 1
            if connection.age >= self.longest:
                self._give_up(connection)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_room(self) -> bool:
        """Give up the tenth of the connections that was waited for longest; tell if any was."""
        waiting = [one for one in self._connections if one.waits_for_client]
        waiting.sort(key=lambda connection: -connection.age)  # of one age, who came first goes
        for connection in waiting[: max(1, self._most // 10)]:
            self._give_up(connection)
        return bool(waiting)

    def _give_up(self, connection: Connection) -> None:
        self.went(connection)
        connection.give_up()

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.look()
        if self._connections:
            self._plan()
