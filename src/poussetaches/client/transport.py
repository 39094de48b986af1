"""Transports, which send requests to the server; tests replace them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from poussetaches.client.address import Address, read_address, url_for_messages
from poussetaches.client.answer import Answer
from poussetaches.client.call import Call

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


class _HttpTransport(Generic[C]):
    """Opens connections at the first call of each process."""

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
        self._connections: C | None = None

    def _open(self, address: Address) -> C:
        raise NotImplementedError

    def _opened(self) -> C:
        # After a fork, both processes would read from the same sockets.
        if self._connections is None or self._pid != os.getpid():
            connections = self._open(read_address(self._url, self._token, self._environ))
            self._connections, self._pid = connections, os.getpid()
        return self._connections

    def _detach(self) -> C | None:
        """Forget the connections; return them if this process opened them."""
        connections, self._connections = self._connections, None
        return connections if self._pid == os.getpid() else None


class HttpTransport(_HttpTransport["Connections"]):
    """Sends requests over HTTP, HTTPS or a Unix socket. Safe for threads, and after a fork.

    The first call reads the environment and opens a connection. Proxies are not used and
    redirects not followed. The timeout does not cover resolving the server's name: where that
    may hang, use its address.
    """

    @property
    def url(self) -> str:
        """The server's URL without credentials, for messages."""
        return url_for_messages(self._url, self._environ)

    def send(self, call: Call, *, timeout: float) -> Answer:
        return self._opened().send(call, timeout=timeout)

    def stream(self, call: Call, *, silence: float) -> AbstractContextManager[Stream]:
        return self._opened().stream(call, silence=silence)

    def close(self) -> None:
        connections = self._detach()
        if connections is not None:
            connections.close()

    def _open(self, address: Address) -> Connections:
        from poussetaches.client.blocking_connections import Connections  # noqa: PLC0415  # 60 ms

        return Connections(address)


class AsyncHttpTransport(_HttpTransport["AsyncConnections"]):
    """Sends requests over HTTP or HTTPS, from any event loop.

    The first call reads the environment and opens a connection. Proxies are not used and
    redirects not followed. In a process that was forked after its parent's first call, every
    call raises ``ClientError``, because the threads of the connections are not forked.
    """

    async def send(self, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109  # of a socket
        return await self._opened().send(call, timeout=timeout)

    def stream(self, call: Call, *, silence: float) -> AbstractAsyncContextManager[AsyncStream]:
        return self._opened().stream(call, silence=silence)

    async def close(self) -> None:
        connections = self._detach()
        if connections is not None:
            await connections.close()

    def _open(self, address: Address) -> AsyncConnections:
        from poussetaches.client import async_connections  # noqa: PLC0415  # asyncio: 50 ms

        return async_connections.AsyncConnections(address)
