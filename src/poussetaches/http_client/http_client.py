"""``HttpClient``: requests over connections that are reused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from poussetaches.core.target import Target, parse_target
from poussetaches.http_client.body_stream import BodyStream
from poussetaches.http_client.connection_pool import ConnectionPool
from poussetaches.http_client.connector import Connector
from poussetaches.http_client.deadline import Deadline
from poussetaches.http_client.deadline_wheel import DeadlineWheel
from poussetaches.http_client.errors import AnswerTimeout, Unanswered
from poussetaches.http_client.http_connection import HttpConnection
from poussetaches.http_client.request_writer import write_request
from poussetaches.http_client.response_reader import Response
from poussetaches.http_client.tls import TlsContext

Addresses = Callable[[], Awaitable[Sequence[str]]]


class HttpRequest(msgspec.Struct, frozen=True, gc=False):
    """A request as bytes, and where it goes."""

    method: str
    target: Target
    data: bytes

    @classmethod
    def of(cls, method: str, url: str, headers: Mapping[str, str], body: bytes) -> HttpRequest:
        """Return the request to a URL.

        Raises:
            InvalidTask: the URL is invalid.
            InvalidRequest: the method or a header is invalid.
        """
        return cls(method, parse_target(url), write_request(method, url, headers, body))


class HttpClient:
    """Sends requests on one event loop: no redirects, no proxies, no decompression.

    Connecting may take ``connect_timeout`` seconds, and a TLS handshake as many again. Idle
    connections are closed after ``idle_time`` seconds, and at most ``most_idle`` are kept.
    ``on_repeat`` is called when a request is sent again.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        idle_time: float,
        most_idle: int,
        on_repeat: Callable[[], None] = lambda: None,
    ) -> None:
        self.tls = TlsContext()
        self._on_repeat = on_repeat
        self._deadlines = DeadlineWheel()
        self._connector = Connector(
            timeout=connect_timeout, tls=self.tls, deadlines=self._deadlines
        )
        self._pool = ConnectionPool(idle_time=idle_time, most=most_idle)

    async def request(
        self,
        request: HttpRequest,
        *,
        limit: int,
        timeout: float,  # noqa: ASYNC109  # of the request, lookup and connection included
        addresses: Addresses,
        allowed: Collection[str] | None = None,
        repeats: bool = True,
    ) -> Response:
        """Send a request; return its response, with at most ``limit`` bytes of the body.

        ``addresses`` looks up the host; it is called for new connections. Idle connections are
        used if their address is one of those ``allowed``, or if this is None.

        A server may close an idle connection just when it is used. If ``repeats`` is set, and so
        the request may be received twice (RFC 9110, section 9.2.2), one that gets no byte of an
        answer on such a connection is sent once more, on a new one (RFC 9112, section 9.3.1).

        Raises:
            RequestFailed: there was no complete response within ``timeout`` seconds.
        """
        ends_at = asyncio.get_running_loop().time() + timeout
        connection = self._pool.take(request.target, allowed)
        may_repeat = repeats and connection is not None
        if connection is None:
            connection = await self._connect(request.target, addresses, ends_at)
        while True:
            try:
                response = await connection.request(
                    request.data, method=request.method, limit=limit, ends_at=ends_at
                )
            except Unanswered:
                if not may_repeat:
                    raise
                self._on_repeat()
                may_repeat = False
                connection = await self._connect(request.target, addresses, ends_at)
            except BaseException:
                connection.abort()
                raise
            else:
                self._pool.put(connection)
                return response

    @asynccontextmanager
    async def stream(
        self,
        request: HttpRequest,
        *,
        timeout: float,  # noqa: ASYNC109  # of the head
        addresses: Addresses,
    ) -> AsyncIterator[tuple[Response, BodyStream]]:
        """Send a request on a new connection; yield the head of its response, and its body.

        Raises:
            RequestFailed: there was no response.
            TimeoutError: there was none within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            connection = await self._connector.connect(request.target, await addresses())
        try:
            head, body = connection.stream(request.data, method=request.method)
            async with asyncio.timeout(timeout):
                response = await head
            yield response, body
        finally:
            connection.abort()

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()
        self._deadlines.close()

    async def _connect(
        self, target: Target, addresses: Addresses, ends_at: float
    ) -> HttpConnection:
        try:
            with Deadline(ends_at):
                return await self._connector.connect(target, await addresses())
        except TimeoutError:
            raise AnswerTimeout("no answer in time") from None
