"""Asynchronous connections to the server: pyreqwest's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.response import Response

from poussetaches.client.address import Address
from poussetaches.client.answer import Answer
from poussetaches.client.call import Call
from poussetaches.client.errors import ClientError, NoAnswer
from poussetaches.core.errors import SettingsError

IDLE_CONNECTION = timedelta(seconds=30)  # the server closes after 75 s; ours are closed first
CHUNK_SIZE = 65_536  # bytes of a stream


class AsyncConnections:
    """Sends requests over connections that are reused."""

    def __init__(self, address: Address) -> None:
        if address.socket is not None:
            raise SettingsError(
                "AsyncClient does not support Unix sockets; use an http URL, or Client"
            )
        self._address = address
        self._client = _client()

    async def send(self, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109  # of a socket
        request = self._request(call).timeout(timedelta(seconds=max(timeout, 0.001)))
        try:
            response = await request.build().send()
            body = await response.bytes()
        except PyreqwestError as exc:
            raise self._no_answer(exc, timeout) from exc
        headers = _headers_of(response)
        return Answer(response.status, headers, bytes(body), self._address.shown_url)

    @asynccontextmanager
    async def stream(self, call: Call, *, silence: float) -> AsyncIterator[_Stream]:
        # Without a buffer, which would be filled before the first piece is returned.
        request = self._request(call).timeout(timedelta(days=365)).streamed_read_buffer_limit(0)
        try:
            async with request.build_streamed() as response:
                head = Answer(response.status, _headers_of(response), b"", self._address.shown_url)
                yield _Stream(head, response, silence)
        except (PyreqwestError, TimeoutError) as exc:
            raise self._no_answer(exc, silence) from exc

    async def close(self) -> None:
        await self._client.close()

    def _request(self, call: Call) -> Any:
        address = self._address
        headers = {**address.headers(call.content_type), **dict(call.headers)}
        url = address.origin + address.prefix + call.target
        return self._client.request(call.method, url).headers(headers).body_bytes(call.body)

    def _no_answer(self, exc: Exception, timeout: float) -> NoAnswer:
        details = getattr(exc, "details", None) or {}
        causes = [cause["message"] for cause in details.get("causes") or []]
        why = causes[-1] if causes else exc
        return NoAnswer(
            f"no answer from {self._address.shown_url} (within {timeout:.3g} s): {why}"
        )


class _Stream:
    """An answer that arrives in pieces, at most ``silence`` seconds apart."""

    def __init__(self, head: Answer, response: Response, silence: float) -> None:
        self.head = head
        self._response = response
        self._silence = silence

    async def pieces(self) -> AsyncIterator[bytes]:
        while True:
            async with asyncio.timeout(self._silence):
                piece = await self._response.body_reader.read_chunk()
            if not piece:
                return
            yield bytes(piece)


def _client() -> Client:
    try:
        return (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .pool_idle_timeout(IDLE_CONNECTION)
            .build()
        )
    except RuntimeError as exc:  # threads are not forked
        raise ClientError(
            "AsyncClient was used before this process was forked; use it only after the fork, "
            "or use Client here"
        ) from exc


def _headers_of(response: Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
