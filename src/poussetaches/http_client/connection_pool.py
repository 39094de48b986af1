"""``ConnectionPool``: idle connections, kept for a short time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from poussetaches.core.target import Target
from poussetaches.http_client.http_connection import HttpConnection


class ConnectionPool:
    """The idle connections of one event loop, by target. The one used last is used first.

    They are closed after ``idle_time`` seconds, and at most ``most`` are kept.
    """

    def __init__(self, *, idle_time: float, most: int) -> None:
        self._idle_time = idle_time
        self._most = most
        self._idle: dict[Target, list[HttpConnection]] = {}  # the one that is idle longest first
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def take(self, target: Target, addresses: Collection[str] | None) -> HttpConnection | None:
        """Remove and return an idle connection to one of the addresses, or (None) to any."""
        for connection in reversed(self._idle.get(target, ())):
            if addresses is None or connection.address in addresses:
                self._remove(connection)
                if connection.idle_since + self._idle_time > _now():
                    return connection
                connection.close()
                return None  # the others are idle even longer
        return None

    def put(self, connection: HttpConnection) -> None:
        """Keep a connection if another request can be sent; close it otherwise."""
        if not connection.is_reusable:
            connection.abort()
        elif self._count >= self._most:
            connection.close()
        else:
            connection.idle_since = _now()
            connection.on_close = self._remove
            self._idle.setdefault(connection.target, []).append(connection)
            self._count += 1
            if self._timer is None:
                self._plan(connection.idle_since)

    def close(self) -> None:
        """Close all idle connections."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_idle_since(float("inf"))

    def _remove(self, connection: HttpConnection) -> None:
        connection.on_close = None
        idle = self._idle[connection.target]
        if idle[-1] is connection:
            idle.pop()
        else:
            idle.remove(connection)
        if not idle:
            del self._idle[connection.target]
        self._count -= 1

    def _plan(self, idle_since: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(idle_since + self._idle_time, self._close_expired)

    def _close_expired(self) -> None:
        self._timer = None
        self._close_idle_since(_now() - self._idle_time)
        if self._idle:
            self._plan(min(idle[0].idle_since for idle in self._idle.values()))

    def _close_idle_since(self, moment: float) -> None:
        for idle in list(self._idle.values()):
            for connection in [each for each in idle if each.idle_since <= moment]:
                self._remove(connection)
                connection.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
