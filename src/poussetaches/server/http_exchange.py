"""``HttpExchange``: one request, and its response by an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message

from poussetaches.api.problems import Problem, problem_of
from poussetaches.server.client_transport import ClientTransport
from poussetaches.server.http_response import render_head
from poussetaches.server.request_parser import ParsedHead

HIGH_WATER = 64 * 1024  # bytes of a body that the application has not read; then reading pauses

_WITHOUT_BODY = (204, 304)  # statuses; RFC 9110, sections 15.3.5 and 15.4.5
_ABSENT = -1  # the length of a response without Content-Length

log = logging.getLogger(__name__)


class HttpExchange:
    """A request whose body arrives while the application runs."""

    def __init__(
        self,
        transport: ClientTransport,
        head: ParsedHead,
        scope: dict[str, Any],
        *,
        refusal: Callable[[str, Problem], Response],
        completed: Callable[[], None],
    ) -> None:
        """Prepare the exchange; ``completed`` is called after the complete response.

        ``refusal`` returns the response to a problem at a path.
        """
        self.keep_alive = head.keep_alive
        self.is_received = False  # the whole body is there
        self.has_begun = False  # the response
        self.is_complete = False  # the response
        self._transport = transport
        self._scope = scope
        self._refusal = refusal
        self._completed = completed
        self._expects_continue = head.expects_continue
        self._body = bytearray()  # not read by the application
        self._is_disconnected = False
        self._event = asyncio.Event()  # something for the application to receive
        self._is_chunked = False
        self._has_body = False  # the response
        self._length = _ABSENT  # bytes of the response that are still to be sent

    @property
    def waits_for_client(self) -> bool:
        """Return whether only the client can make progress."""
        return not self.is_received and not self._body

    def add_body(self, piece: bytes) -> None:
        """Add a piece of the body."""
        if self.is_complete:
            return
        self._body += piece
        self._event.set()
        if len(self._body) > HIGH_WATER:
            self._transport.pause_reading()

    def end_body(self) -> None:
        """Note that the body is complete."""
        self.is_received = True
        self._event.set()

    def disconnect(self) -> None:
        """Note that the client is gone, or was refused."""
        self._is_disconnected = True
        self._event.set()

    async def run(self, app: ASGIApp) -> None:
        """Run the application."""
        try:
            await app(self._scope, self._receive, self._send)
            if not self.has_begun and not self._is_disconnected:
                raise RuntimeError("the application returned without a response")
        except Exception as exc:
            log.error("request failed", exc_info=exc)
            if not self.has_begun and not self._is_disconnected:
                self._fail(exc)
        if self.is_complete or self._is_disconnected:
            return
        # The client must not mistake a part of the response for all of it.
        if self._is_chunked or self._length != _ABSENT:
            self._transport.close()
        else:
            self._transport.abort()

    async def _receive(self) -> Message:
        if self._expects_continue:
            self._expects_continue = False
            if not self.has_begun and not self._is_disconnected:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._is_disconnected and not self.is_complete:
            self._transport.resume_reading()
            await self._event.wait()
            self._event.clear()
        if self._is_disconnected or self.is_complete:
            return {"type": "http.disconnect"}
        body = bytes(self._body)
        self._body.clear()
        return {"type": "http.request", "body": body, "more_body": not self.is_received}

    async def _send(self, message: Message) -> None:
        await self._transport.writable()
        if self._is_disconnected:
            return
        kind = "http.response.body" if self.has_begun else "http.response.start"
        if message["type"] != kind or self.is_complete:
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}")
        if self.has_begun:
            self._send_body(message.get("body", b""), is_last=not message.get("more_body", False))
        else:
            self._begin(message["status"], message.get("headers", ()))

    def _fail(self, exc: Exception) -> None:
        response = self._refusal(self._scope["path"], problem_of(exc))
        self.keep_alive = False
        self._begin(response.status_code, response.raw_headers)
        self._send_body(bytes(response.body), is_last=True)

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        length, rest = _ABSENT, []
        for name, value in headers:
            if name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
                continue
            if name == b"content-length":
                length = int(value)
            rest.append((name, value))
        has_body = self._scope["method"] != "HEAD" and status not in _WITHOUT_BODY
        # HTTP/1.0 has no chunks (RFC 9112, section 6.1): the body ends with the connection.
        is_chunked = has_body and length == _ABSENT and self._scope["http_version"] != "1.0"
        if is_chunked:
            rest.append((b"transfer-encoding", b"chunked"))
        self._transport.write(render_head(status, rest, keep_alive=self.keep_alive))
        self.has_begun = True
        self._expects_continue = False
        self._has_body, self._is_chunked = has_body, is_chunked
        self._length = length if has_body else 0

    def _send_body(self, body: bytes, *, is_last: bool) -> None:
        if not self._has_body:
            body = b""
        if self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk + b"0\r\n\r\n" if is_last else chunk
        elif self._length != _ABSENT:
            self._length -= len(body)
            if self._length < 0 or (is_last and self._length):
                raise RuntimeError("the response does not have the length that it claims")
        if body:
            self._transport.write(body)
        if is_last:
            self.is_complete = True
            self._event.set()
            self._completed()
