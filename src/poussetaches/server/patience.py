"""``Patience``: how many connections there may be, and how long they may keep the server waiting.

Connections cost memory and file descriptors, of which ``descriptors`` gives them some. A
connection counts until its descriptor is free. At the limit, those that have kept the server
waiting longest are closed; so are clients that do not read, when their answers take too much
memory.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from poussetaches.server.listener import UNREAD_LIMIT

MOST_UNREAD = 128 * 1024 * 1024  # bytes of answers that wait for their clients to read them
INTERVAL = 5.0  # seconds between two looks
LONGEST_WAIT = 27  # looks: above the two minutes that a batch may take
LONGEST_UNREAD = int(UNREAD_LIMIT / INTERVAL)  # looks
LINGER = 2  # looks: time for a client that was refused to read the reason

log = logging.getLogger(__name__)


class Connection(Protocol):
    """What one is waited for on; ``age`` counts the looks since it last got anywhere."""

    age: int

    @property
    def waits_for_client(self) -> bool:
        """Return whether there is nothing that the server could do on this connection."""

    @property
    def unread(self) -> int:
        """How many bytes of answers the client has not taken yet."""

    def give_up(self) -> None:
        """Close a connection that has been waited for long enough."""

    def turn_away(self) -> None:
        """Close a connection for which there is no room."""

    def abort(self) -> None:
        """Free the descriptor now, whatever was not sent."""


class Patience:
    """Looks after the connections of one server."""

    def __init__(
        self,
        *,
        most: int,
        longest: int = LONGEST_WAIT,
        longest_unread: int = LONGEST_UNREAD,
        most_unread: int = MOST_UNREAD,
    ) -> None:
        self._most = most
        self._longest = longest  # looks
        self._longest_unread = longest_unread  # looks
        self._most_unread = most_unread  # bytes
        # In the order in which they came, with what was unread at the last look.
        self._connections: dict[Connection, int] = {}
        self._refused: dict[Connection, None] = {}  # told why; they may go at any time
        self._aborted: set[Connection] = set()  # their descriptors are about to be free
        # Those that are not written to until their clients read, the longest first, and how much
        # there is to read.
        self._stalled: dict[Connection, int] = {}
        self._unread = 0  # bytes, of all stalled ones
        self._closed_count = 0  # to make room, since the last look
        self._timer: asyncio.TimerHandle | None = None

    def came(self, connection: Connection) -> None:
        """Look after one more connection."""
        has_room = len(self._connections) < self._most or self._make_room()
        self._connections[connection] = 0
        if not has_room:
            connection.turn_away()
        if self._timer is None:
            self._plan()

    def went(self, connection: Connection) -> None:
        """Forget a connection whose descriptor is free."""
        self._connections.pop(connection, None)
        self._refused.pop(connection, None)
        self._aborted.discard(connection)
        self.resumed(connection)

    def refused(self, connection: Connection) -> None:
        """Wait a little for a client to read why it was refused, then free the descriptor."""
        connection.age = 0
        if connection in self._connections:
            self._refused[connection] = None

    def stalled(self, connection: Connection) -> None:
        """Count an answer that is not read as fast as it was written."""
        self.resumed(connection)
        self._count_unread(connection)
        if self._unread > self._most_unread:
            self._free_memory(connection)

    def resumed(self, connection: Connection) -> None:
        """Count an answer no longer: it was read, or will never be."""
        self._unread -= self._stalled.pop(connection, 0)

    def look(self) -> None:
        """Give up the connections that have been waited for long enough."""
        for connection, before in list(self._connections.items()):
            unread = connection.unread
            self._connections[connection] = unread
            if connection in self._aborted:
                continue
            if unread < before or not connection.waits_for_client:
                connection.age = 0
                continue
            connection.age += 1
            if connection.age >= self._limit_of(connection, unread):
                self._give_up(connection)
        if self._closed_count:
            log.warning("connections closed to make room", extra={"count": self._closed_count})
            self._closed_count = 0

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _limit_of(self, connection: Connection, unread: int) -> int:
        if connection in self._refused:
            return LINGER
        return self._longest_unread if unread else self._longest

    def _give_up(self, connection: Connection) -> None:
        if connection in self._refused or connection.unread:
            self._abort(connection)  # it would not read why
        else:
            connection.give_up()

    def _abort(self, connection: Connection) -> None:
        self.resumed(connection)
        self._refused.pop(connection, None)
        self._aborted.add(connection)
        connection.abort()

    def _make_room(self) -> bool:
        """Free a descriptor for a newcomer; return whether there was one to free.

        The tenth of the connections that was waited for longest is told to go, all at once, and
        each newcomer takes the place of one of them.
        """
        if not self._refused:
            waiting = [
                connection
                for connection in self._connections
                if connection.waits_for_client and connection not in self._aborted
            ]
            waiting.sort(key=lambda connection: -connection.age)  # of one age, who came first goes
            for connection in waiting[: max(1, self._most // 10)]:
                if not connection.unread:
                    connection.give_up()
                self._refused[connection] = None
                self._closed_count += 1
        oldest = next(iter(self._refused), None)
        if oldest is None:
            return False
        self._abort(oldest)
        return True

    def _free_memory(self, newest: Connection) -> None:
        """Close stalled connections but for the newest, until the rest is within the limit."""
        # What was read meanwhile counts no longer, and whoever reads comes last.
        for connection, before in list(self._stalled.items()):
            if connection.unread < before:
                self.resumed(connection)
                self._count_unread(connection)
        for connection in list(self._stalled):
            if self._unread <= self._most_unread:
                return
            if connection is not newest:
                self._abort(connection)
                self._closed_count += 1

    def _count_unread(self, connection: Connection) -> None:
        self._stalled[connection] = unread = connection.unread
        self._unread += unread

    def _plan(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.look()
        if self._connections:
            self._plan()
