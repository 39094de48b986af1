"""Asynchronous connections to the server."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from weakref import WeakKeyDictionary

from poussetaches.client.address import Address
from poussetaches.client.call import Call
from poussetaches.client.connection_errors import (
    broken,
    no_secure_connection,
    not_http,
    not_reached,
    too_late,
)
from poussetaches.client.errors import ClientError
from poussetaches.client.server_answer import Answer
from poussetaches.core.errors import SettingsError
from poussetaches.core.target import Target
from poussetaches.http_client.body_stream import BodyStream
from poussetaches.http_client.errors import (
    AnswerTimeout,
    ConnectTimeout,
    HandshakeFailed,
    NotConnected,
    NotHttp,
    RequestFailed,
)
from poussetaches.http_client.http_client import HttpClient, HttpRequest
from poussetaches.http_client.response_reader import Response

IDLE_CONNECTION = 30.0  # seconds; the server closes after 75 s, so ours are closed first
MOST_IDLE = 100
CONNECT_TIMEOUT = 60.0  # seconds; the timeout of a call is usually shorter


class AsyncConnections:
    """Sends requests over connections that are reused, those of each event loop apart."""

    def __init__(self, address: Address) -> None:
        if address.socket is not None:
            raise SettingsError(
                "AsyncClient does not support Unix sockets; use an http URL, or Client"
            )
        self._address = address
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, HttpClient] = (
            WeakKeyDictionary()
        )

    async def send(self, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109  # of a socket
        request = self._request(call)
        try:
            response = await self._client().request(
                request,
                limit=sys.maxsize,
                timeout=timeout,
                addresses=partial(_look_up, request.target),
                repeats=False,  # a push without a key would create two tasks
            )
        except (RequestFailed, OSError) as exc:
            raise self._no_answer(exc, timeout) from exc
        return self._answer(response)

    @asynccontextmanager
    async def stream(self, call: Call, *, silence: float) -> AsyncIterator[_Stream]:
        request = self._request(call)
        addresses = partial(_look_up, request.target)
        try:
            async with self._client().stream(request, timeout=silence, addresses=addresses) as (
                head,
                body,
            ):
                yield _Stream(self._answer(head), body, silence)
        except (RequestFailed, OSError) as exc:
            raise self._no_answer(exc, silence) from exc

    async def close(self) -> None:
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            client.close()

    def _client(self) -> HttpClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = HttpClient(
                connect_timeout=CONNECT_TIMEOUT, idle_time=IDLE_CONNECTION, most_idle=MOST_IDLE
            )
        return client

    def _request(self, call: Call) -> HttpRequest:
        address = self._address
        headers = {**address.headers(call.content_type), **dict(call.headers)}
        url = address.origin + address.prefix + call.target
        return HttpRequest.of(call.method, url, headers, call.body)

    def _answer(self, response: Response) -> Answer:
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in response.headers.items()
        }
        return Answer(response.status, headers, response.body, self._address.shown_url)

    def _no_answer(self, exc: Exception, timeout: float) -> ClientError:
        url = self._address.shown_url
        match exc:
            case TimeoutError() | AnswerTimeout() | ConnectTimeout():
                return too_late(url, timeout)
            case NotConnected() | OSError():
                return not_reached(url, exc)
            case HandshakeFailed():
                return no_secure_connection(url, exc)
            case NotHttp():
                return not_http(url, exc)
            case _:
                return broken(url, exc)


class _Stream:
    """An answer that arrives in pieces, at most ``silence`` seconds apart."""

    def __init__(self, head: Answer, body: BodyStream, silence: float) -> None:
        self.head = head
        self._body = body
        self._silence = silence

    async def pieces(self) -> AsyncIterator[bytes]:
        while True:
            async with asyncio.timeout(self._silence):
                piece = await self._body.read()
            if not piece:
                return
            yield piece


async def _look_up(target: Target) -> Sequence[str]:
    """Return the addresses of a host.

    Raises:
        OSError: it has none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
