"""What carries calls to the server: the seam that tests put something else into."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from poussetaches.client.address import read_address, url_for_messages
from poussetaches.client.answer import Answer
from poussetaches.client.call import Call

if TYPE_CHECKING:
    from poussetaches.client.async_connections import AsyncConnections
    from poussetaches.client.connections import Connections


class Stream(Protocol):
    """An answer that comes piece by piece; ``head`` has no body."""

    head: Answer

    def pieces(self) -> Iterator[bytes]:
        """Yield what comes, to the end.

        Raises:
            NoAnswer: it breaks off, or nothing comes for as long as was said.
        """


class AsyncStream(Protocol):
    """An answer that comes piece by piece; ``head`` has no body."""

    head: Answer

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield what comes, to the end.

        Raises:
            NoAnswer: it breaks off, or nothing comes for as long as was said.
        """


class Transport(Protocol):
    """Makes calls."""

    def send(self, call: Call, *, timeout: float) -> Answer:
        """Make a call, and return the whole answer within so many seconds.

        Raises:
            NoAnswer: none came, or none that is HTTP.
        """

    def stream(self, call: Call, *, silence: float) -> AbstractContextManager[Stream]:
        """Make a call whose answer has no end; ``silence`` is in seconds.

        Raises:
            NoAnswer: none came, or none that is HTTP.
        """

    def close(self) -> None:
        """Close the connections that are idle. What is sent later opens others."""


class AsyncTransport(Protocol):
    """Makes calls, from asynchronous code."""

    async def send(self, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109  # of a socket
        """Make a call, and return the whole answer within so many seconds.

        Raises:
            NoAnswer: none came, or none that is HTTP.
        """

    def stream(self, call: Call, *, silence: float) -> AbstractAsyncContextManager[AsyncStream]:
        """Make a call whose answer has no end; ``silence`` is in seconds.

        Raises:
            NoAnswer: none came, or none that is HTTP.
        """

    async def close(self) -> None:
        """Close the connections that are idle. What is sent later opens others."""


class HttpTransport:
    """Makes calls over HTTP, https, or a Unix socket. Safe for threads, and after a fork.

    The environment is read, and a connection opened, when the first call is made. No proxy is
    used and no redirect followed. Looking up the server's name is the one thing that no timeout
    ends: where that may hang, give its address.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._url = url
        self._token = token
        self._environ = environ
        self._pid = 0
        self._connections: Connections | None = None

    @property
    def url(self) -> str:
        """The server's URL without credentials, for messages."""
        return url_for_messages(self._url, self._environ)

    def send(self, call: Call, *, timeout: float) -> Answer:
        return self._opened().send(call, timeout=timeout)

    def stream(self, call: Call, *, silence: float) -> AbstractContextManager[Stream]:
        return self._opened().stream(call, silence=silence)

    def close(self) -> None:
        if self._connections is not None and self._pid == os.getpid():
            self._connections.close()
        self._connections = None

    def _opened(self) -> Connections:
        # The parent's connections are the parent's: two processes would read each other's answers.
        if self._connections is None or self._pid != os.getpid():
            from poussetaches.client.connections import Connections  # noqa: PLC0415  # 60 ms

            connections = Connections(read_address(self._url, self._token, self._environ))
            self._connections, self._pid = connections, os.getpid()
            return connections
        return self._connections


class AsyncHttpTransport:
    """Makes calls over HTTP or https, from any event loop.

    The environment is read, and a connection opened, when the first call is made. No proxy is
    used and no redirect followed. In a process that was forked after its parent's first call
    every call raises ``ClientError``: its parent's threads have not come along.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._url = url
        self._token = token
        self._environ = environ
        self._pid = 0
        self._connections: AsyncConnections | None = None

    async def send(self, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109  # of a socket
        return await self._opened().send(call, timeout=timeout)

    def stream(self, call: Call, *, silence: float) -> AbstractAsyncContextManager[AsyncStream]:
        return self._opened().stream(call, silence=silence)

    async def close(self) -> None:
        connections, self._connections = self._connections, None
        if connections is not None and self._pid == os.getpid():
            await connections.close()

    def _opened(self) -> AsyncConnections:
        # A call that began before a fork would never end; starting anew raises the reason.
        if self._connections is None or self._pid != os.getpid():
            from poussetaches.client.async_connections import (  # noqa: PLC0415  # asyncio: 50 ms
                AsyncConnections,
            )

            address = read_address(self._url, self._token, self._environ)
            connections = AsyncConnections(address)
            self._connections, self._pid = connections, os.getpid()
            return connections
        return self._connections
