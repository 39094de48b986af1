"""``HttpProtocol``: one connection to the API, from any client, well-behaved or not.

uvicorn's protocol with limits on heads, trailers, pipelined requests and time. Requests that HTTP
does not allow are refused in the dialect of their path, like all refused requests.
"""

from __future__ import annotations

import asyncio
import logging
import re
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
from starlette.responses import Response
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from poussetaches.api.dialect import Dialects
from poussetaches.api.problems import Problem, unavailable
from poussetaches.api.request_body import MAX_DISCARDED
from poussetaches.api.request_head import quoted
from poussetaches.server.connection_limits import Patience
from poussetaches.server.write_buffer import BufferingTransport

MAX_HEAD = 64 * 1024  # bytes of a head, of trailers, and of everything else except the body
MOST_IN_A_ROW = 64  # requests that may wait behind the current one
HIGH_WATER = 16 * 1024  # unread bytes of each client that patience does not count

_OTHER_PROTOCOLS = (
    (b"\x16\x03", "it is TLS, and the server has plain HTTP only; use http://"),
    (b"PRI * HTTP/2", "it is HTTP/2, and the server has HTTP/1.1 only"),
)
_FRAMING = (b"content-length", b"transfer-encoding")
_CHECKED = frozenset({b"host", b"expect", b"transfer-encoding", b"content-encoding"})
# RFC 3986, section 3.2: a name or an address, and perhaps a port.
_HOST = re.compile(
    rb"(?:\[[0-9A-Za-z.:%_~-]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)

log = logging.getLogger(__name__)


class HttpProtocol(HttpToolsProtocol):
    """A connection that sends each response in one piece, and enforces the limits."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        patience: Patience,
        dialects: Dialects,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.age = 0  # checks since it last made progress
        self.url = b""
        self._patience = patience
        self._dialects = dialects
        self._in_head = False
        self._host_count = 0  # Host headers in the current head
        self._moved = False  # the parser made progress with the last data
        self._unseen = 0  # bytes since the parser last made progress
        self._length = 0  # bytes of the last data
        self._head_length = 0  # bytes since the data in which the current head began
        self._refusal: Problem | None = None
        self._passes_over_head = False
        self._has_refused = False

    def connection_made(  # type: ignore[override]  # as uvicorn narrows it
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(BufferingTransport(transport, self.loop))
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self._patience.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._patience.went(self)

    @property
    def waits_for_client(self) -> bool:
        """Return whether only the client can make progress on this connection."""
        if self.unread:
            return True
        request = self._answering
        return request is None or (request.more_body and not request.body)

    @property
    def unread(self) -> int:
        """Bytes of responses that the client has not read yet."""
        return self.transport.get_write_buffer_size()

    def give_up(self) -> None:
        """Close a connection whose client took too long."""
        if self._has_refused or (not self._in_head and self._answering is None):
            self.transport.close()
            return
        detail = "the request did not arrive in time"
        self._refuse(Problem(HTTPStatus.REQUEST_TIMEOUT, "too-slow", detail))

    def turn_away(self) -> None:
        """Refuse a new connection: there are too many."""
        detail = "there are too many connections; retry later"
        self._refuse(unavailable("busy", detail))

    def abort(self) -> None:
        """Close the connection now; unsent data is lost."""
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience.stalled(self)

    def resume_writing(self) -> None:
        self.age = 0
        self._patience.resumed(self)
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._has_refused:
            self._throw_away(data)
            return
        self._unset_keepalive_if_required()
        self._moved = False
        self._length = len(data)
        self._head_length += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as exc:
            self._refuse(self._refusal or self._diagnosed(data, exc))
            return
        self._unseen = 0 if self._moved else self._unseen + len(data)
        if self._unseen > MAX_HEAD:
            self._refuse(_head_too_large())

    def on_message_begin(self) -> None:
        if self._passes_over_head:
            return
        self._moved = self._in_head = True
        self._head_length = self._length
        self._host_count = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.rstrip(b" \t")  # RFC 9110, section 5.5; the parser strips the front only
        if name in _CHECKED and self._in_head:
            self._check_header(name, value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._passes_over_head:
            return
        version = self.parser.get_http_version()
        if version != "1.1" and version != "1.0":  # noqa: PLR1714 - the fastest form
            self._stop(_unknown_version(version))
        if not self._host_count and version == "1.1":  # RFC 9112, section 3.2
            self._stop(_not_http("it has no Host header"))
        if self._head_length > MAX_HEAD and self._head_size() > MAX_HEAD:
            self._stop(_head_too_large())
        if len(self.pipeline) == MOST_IN_A_ROW:
            self._stop(_not_http(f"more than {MOST_IN_A_ROW} pipelined requests are pending"))
        self._moved = True
        self._in_head = False
        self.age = 0
        super().on_headers_complete()
        self.headers = []  # for trailers, which are no part of the request

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = True
        if self.parser.should_upgrade() and self._framing():
            return  # its body has not been read yet: see _feed
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.age = 0
        super().on_response_complete()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._pass_over_upgrade(data[exc.args[0] :])

    def _pass_over_upgrade(self, rest: bytes) -> None:
        """Continue as if no upgrade had been requested (RFC 9110, 7.8).

        The parser does not read the body of a request that asks for an upgrade. A new parser gets
        the framing of the body, and continues there.
        """
        framing = self._framing()
        self.parser = httptools.HttpRequestParser(self)
        if framing:
            self._passes_over_head = True
            lines = b"".join(b"%b: %b\r\n" % header for header in framing)
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % lines)
            self._passes_over_head = False
        if rest:
            self._feed(rest)

    def _framing(self) -> list[tuple[bytes, bytes]]:
        return [header for header in self.scope["headers"] if header[0] in _FRAMING]

    def _diagnosed(self, data: bytes, exc: httptools.HttpParserError) -> Problem:
        """Return the problem of bytes that the parser could not read."""
        first: RequestResponseCycle | None = self.cycle
        if first is None:
            for begin, reason in _OTHER_PROTOCOLS:
                if data.startswith(begin):
                    return _not_http(reason)
        if isinstance(exc, httptools.HttpParserCallbackError):  # one of uvicorn's
            return _not_http("its target is not a path")
        return _not_http(str(exc))

    def _check_header(self, name: bytes, value: bytes) -> None:
        """Refuse header values that neither the parser nor uvicorn checks."""
        match name:
            case b"host":
                self._host_count += 1
                if self._host_count > 1:
                    self._stop(_not_http("it has more than one Host header"))
                if not _is_host(value):
                    self._stop(_not_http(f"its Host is {quoted(value)}, which is not a host"))
            case b"expect":
                self.expect_100_continue = value.lower() == b"100-continue"
            case b"transfer-encoding":  # RFC 9112, section 6.1
                if value.lower() != b"chunked":
                    self._stop(_unknown_coding(value))
                if self.parser.get_http_version() == "1.0":
                    self._stop(_not_http("HTTP/1.0 has no Transfer-Encoding"))
            case b"content-encoding":
                if value.lower() not in (b"", b"identity"):
                    self._stop(_compressed(value))

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _stop(self, refusal: Problem) -> None:
        """Stop the parser at the current head."""
        self._refusal = refusal
        raise ValueError(refusal.detail)

    def _refuse(self, problem: Problem) -> None:
        """Refuse the current request after earlier responses, and close the connection."""
        log.debug("request refused", extra={"reason": problem.detail})
        self._has_refused = True
        request = self._answering
        if request is not None and not request.more_body:
            request.keep_alive = False  # earlier requests get their responses
            return
        if request is not None and (request.response_started or self.pipeline):
            self.transport.close()
            return
        if request is not None:
            request.disconnected = True
            request.message_event.set()
        self.transport.write(_raw(self._dialects.refusal(self._path(), problem)))
        # Closing with unread data would reset the connection, and discard the response.
        self.transport.write_eof()
        self._patience.refused(self)

    def _path(self) -> str:
        """Return the path of the current request, empty if it is not known yet."""
        try:
            path = httptools.parse_url(self.url).path or b""
        except httptools.HttpParserInvalidURLError:  # such as one longer than 64 KiB
            path = self.url.partition(b"?")[0]
        return unquote(path.decode("latin-1"))

    def _throw_away(self, data: bytes) -> None:
        self._unseen += len(data)
        if self._unseen > MAX_DISCARDED:
            self.transport.close()

    @property
    def _answering(self) -> RequestResponseCycle | None:
        """The latest request that has no complete response yet."""
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle


def _raw(response: Response) -> bytes:
    """Return a whole response as bytes."""
    status = HTTPStatus(response.status_code)
    lines = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    return b"".join((head, b"connection: close\r\n", lines, b"\r\n", bytes(response.body)))


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _not_http(reason: str) -> Problem:
    detail = f"HTTP/1.1 does not allow this request: {reason}"
    return Problem(HTTPStatus.BAD_REQUEST, "refused", detail)


def _unknown_version(version: str) -> Problem:
    detail = f"HTTP/{version} is unsupported; HTTP/1.1 and HTTP/1.0 are supported"
    return Problem(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "unsupported-version", detail)


def _unknown_coding(value: bytes) -> Problem:
    detail = f"Transfer-Encoding {quoted(value)} is unsupported; only chunked is supported"
    return Problem(HTTPStatus.NOT_IMPLEMENTED, "unsupported-transfer-encoding", detail)


def _compressed(value: bytes) -> Problem:
    detail = f"Content-Encoding {quoted(value)} is unsupported; send the body uncompressed"
    headers = (("Accept-Encoding", "identity"),)  # RFC 9110, section 15.5.16
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-content-encoding", detail, headers=headers
    )


def _head_too_large() -> Problem:
    detail = f"the head of the request is longer than {MAX_HEAD} bytes"
    return Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", detail)
