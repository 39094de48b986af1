"""Transports, which send requests to the server; tests replace them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from poussetaches.client.address import Address, read_address, url_for_messages
from poussetaches.client.call import Call
from poussetaches.client.server_answer import Answer

if TYPE_CHECKING:
    from poussetaches.client.async_connections import AsyncConnections
    from poussetaches.client.blocking_connections import Connections


C = TypeVar("C")


class Stream(Protocol):
    """An answer that arrives in pieces; ``head`` has no body."""

    head: Answer

    def pieces(self) -> Iterator[bytes]:
        """Yield the pieces until the end.

        Raises:
            NoAnswer: the connection was lost, or nothing arrived for ``silence`` seconds.
        """


class AsyncStream(Protocol):
    """An answer that arrives in pieces; ``head`` has no body."""

    head: Answer

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the pieces until the end.

        Raises:
            NoAnswer: the connection was lost, or nothing arrived for ``silence`` seconds.
        """


class Transport(Protocol):
    """Sends requests."""

    def send(self, call: Call, *, timeout: float) -> Answer:
        """Send a request, and return the complete answer within ``timeout`` seconds.

        Raises:
            NoAnswer: there was no answer in time, or it was not HTTP.
        """

    def stream(self, call: Call, *, silence: float) -> AbstractContextManager[Stream]:
        """Send a request whose answer has no end; ``silence`` is in seconds.

        Raises:
            NoAnswer: there was no answer in time, or it was not HTTP.
        """

    def close(self) -> None:
        """Close the idle connections. A later request opens new ones."""


class AsyncTransport(Protocol):
    """Sends requests from asynchronous code."""

    async def send(self, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109  # of a socket
        """Send a request, and return the complete answer within ``timeout`` seconds.

        Raises:
            NoAnswer: there was no answer in time, or it was not HTTP.
        """

    def stream(self, call: Call, *, silence: float) -> AbstractAsyncContextManager[AsyncStream]:
        """Send a request whose answer has no end; ``silence`` is in seconds.

        Raises:
            NoAnswer: there was no answer in time, or it was not HTTP.
        """

    async def close(self) -> None:
        """Close the idle connections. A later request opens new ones."""


class HttpTransport:
    """Sends requests over HTTP, HTTPS or a Unix socket. Safe for threads, and after a fork.

    The first call reads the environment and opens a connection. Proxies are not used and
    redirects not followed. The timeout does not cover resolving the server's name: where that
    may hang, use its address.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._url = url
        self._environ = environ
        self._connections = _LazyConnections(
            lambda: _blocking_connections(read_address(url, token, environ))
        )

    @property
    def url(self) -> str:
        """The server's URL without credentials, for messages."""
        return url_for_messages(self._url, self._environ)

    def send(self, call: Call, *, timeout: float) -> Answer:
        return self._connections.opened().send(call, timeout=timeout)

    def stream(self, call: Call, *, silence: float) -> AbstractContextManager[Stream]:
        return self._connections.opened().stream(call, silence=silence)

    def close(self) -> None:
        connections = self._connections.detached()
        if connections is not None:
            connections.close()


class AsyncHttpTransport:
    """Sends requests over HTTP or HTTPS, from any event loop.

    The first call reads the environment and opens a connection. Proxies are not used and
    redirects not followed. Safe after a fork.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._connections = _LazyConnections(
            lambda: _async_connections(read_address(url, token, environ))
        )

    async def send(self, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109  # of a socket
        return await self._connections.opened().send(call, timeout=timeout)

    def stream(self, call: Call, *, silence: float) -> AbstractAsyncContextManager[AsyncStream]:
        return self._connections.opened().stream(call, silence=silence)

    async def close(self) -> None:
        connections = self._connections.detached()
        if connections is not None:
            await connections.close()


class _LazyConnections(Generic[C]):
    """Connections that each process opens when it first needs them."""

    def __init__(self, open: Callable[[], C]) -> None:
        self._open = open
        self._pid = 0
        self._connections: C | None = None

    def opened(self) -> C:
        # After a fork, both processes would read from the same sockets.
        if self._connections is None or self._pid != os.getpid():
            self._connections, self._pid = self._open(), os.getpid()
        return self._connections

    def detached(self) -> C | None:
        """Forget the connections; return them if this process opened them."""
        connections, self._connections = self._connections, None
        return connections if self._pid == os.getpid() else None


def _blocking_connections(address: Address) -> Connections:
    from poussetaches.client.blocking_connections import Connections  # noqa: PLC0415  # 60 ms

    return Connections(address)


def _async_connections(address: Address) -> AsyncConnections:
    from poussetaches.client import async_connections  # noqa: PLC0415  # asyncio: 50 ms

    return async_connections.AsyncConnections(address)
