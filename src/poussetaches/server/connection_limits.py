"""``Patience``: limits the number of connections, and how long the server waits for each client.

A connection counts until its descriptor is free; ``descriptors`` sets the limit. At the limit, the
connections on which it has waited longest for the client are closed. When unread responses take
too much memory, connections of clients that do not read are closed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from poussetaches.server.listener import UNREAD_LIMIT

MOST_UNREAD = 128 * 1024 * 1024  # bytes of responses, over all clients that do not read
INTERVAL = 5.0  # seconds between two checks
LONGEST_WAIT = 27  # checks: above the two minutes that a batch may take
LONGEST_IDLE = 15  # checks: longer than clients keep idle connections, so that they close first
LONGEST_UNREAD = int(UNREAD_LIMIT / INTERVAL)  # checks
LINGER = 2  # checks: time for a refused client to read the reason

log = logging.getLogger(__name__)


class Connection(Protocol):
    """A connection to the API; ``age`` counts the checks since it last made progress."""

    age: int

    @property
    def waits_for_client(self) -> bool:
        """Whether only the client can make progress on this connection."""

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun on this connection."""

    @property
    def unread(self) -> int:
        """Bytes of responses that the client has not read yet."""

    def give_up(self) -> None:
        """Close a connection whose client took too long."""

    def turn_away(self) -> None:
        """Refuse a new connection: there are too many."""

    def abort(self) -> None:
        """Close the connection now; unsent data is lost."""


class Patience:
    """Watches the connections of one server."""

    def __init__(
        self,
        *,
        most: int,
        longest: int = LONGEST_WAIT,
        longest_idle: int = LONGEST_IDLE,
        longest_unread: int = LONGEST_UNREAD,
        most_unread: int = MOST_UNREAD,
    ) -> None:
        self._most = most
        self._longest = longest  # checks
        self._longest_idle = longest_idle  # checks
        self._longest_unread = longest_unread  # checks
        self._most_unread = most_unread  # bytes
        # In the order of arrival, with the bytes that were unread at the last check.
        self._connections: dict[Connection, int] = {}
        self._refused: dict[Connection, None] = {}  # the reason was sent; may be aborted any time
        self._aborted: set[Connection] = set()  # their descriptors are about to be free
        # Connections whose writes are paused until the client reads, the longest paused first,
        # with their unread bytes.
        self._stalled: dict[Connection, int] = {}
        self._unread = 0  # bytes, of all stalled ones
        self._closed_count = 0  # connections closed to make room, since the last check
        self._timer: asyncio.TimerHandle | None = None

    def came(self, connection: Connection) -> None:
        """Watch a new connection."""
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
        """Give a refused client a few seconds to read the reason, then close its connection."""
        connection.age = 0
        if connection in self._connections:
            self._refused[connection] = None

    def stalled(self, connection: Connection) -> None:
        """Count the unread bytes of a connection whose writes are paused."""
        self.resumed(connection)
        self._count_unread(connection)
        if self._unread > self._most_unread:
            self._free_memory(connection)

    def resumed(self, connection: Connection) -> None:
        """Stop counting a connection's unread bytes: they were read, or never will be."""
        self._unread -= self._stalled.pop(connection, 0)

    def check(self) -> None:
        """Close the connections whose clients took too long."""
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
        """Stop watching the connections."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _limit_of(self, connection: Connection, unread: int) -> int:
        if connection in self._refused:
            return LINGER
        if unread:
            return self._longest_unread
        return self._longest_idle if connection.is_idle else self._longest

    def _give_up(self, connection: Connection) -> None:
        if connection in self._refused or connection.unread:
            self._abort(connection)  # the client would not read the reason
        else:
            connection.give_up()

    def _abort(self, connection: Connection) -> None:
        self.resumed(connection)
        self._refused.pop(connection, None)
        self._aborted.add(connection)
        connection.abort()

    def _make_room(self) -> bool:
        """Free a descriptor for a new connection; return whether that was possible.

        The tenth of the connections on which it has waited longest is refused at once;
        each new connection then takes the place of one of them.
        """
        if not self._refused:
            waiting = [
                connection
                for connection in self._connections
                if connection.waits_for_client and connection not in self._aborted
            ]
            waiting.sort(key=lambda connection: -connection.age)  # of equal age, the oldest first
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
        """Close stalled connections except the newest, until the rest is within the limit."""
        # Clients that have read since are counted anew, and closed last.
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
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._check_again)

    def _check_again(self) -> None:
        self._timer = None
        self.check()
        if self._connections:
            self._plan()
