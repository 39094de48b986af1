"""``RequestParser``: the requests in the bytes of a connection, within limits.

httptools parses them. This module adds the rules that it does not check, and the limits of heads
and trailers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import unquote

import httptools
import msgspec

from poussetaches.api.problems import Problem
from poussetaches.api.request_head import quoted
from poussetaches.server.http_refusals import (
    MAX_HEAD,
    compressed,
    head_too_large,
    not_http,
    other_protocol,
    unknown_coding,
    unknown_version,
)

_ASGI = {"version": "3.0", "spec_version": "2.3"}
_NOT_A_PATH = "its target is not a path"
_FRAMING = (b"content-length", b"transfer-encoding")
_CHECKED = frozenset({b"host", b"expect", b"transfer-encoding", b"content-encoding"})
# RFC 3986, section 3.2: a name or an address, and perhaps a port.
_HOST = re.compile(
    rb"(?:\[[0-9A-Za-z.:%_~-]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)


class ParsedHead(msgspec.Struct, gc=False):
    """The head of a request; names of headers are in lower case."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    version: str
    keep_alive: bool
    expects_continue: bool

    def scope(self) -> dict[str, Any]:
        """Return the ASGI scope of the request.

        Raises:
            Problem: its target is not a path.
        """
        try:
            url = httptools.parse_url(self.target)
        except httptools.HttpParserInvalidURLError:
            raise not_http(_NOT_A_PATH) from None
        if not url.path:
            raise not_http(_NOT_A_PATH)
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": self.version,
            "method": self.method.decode(),
            "scheme": "http",
            "root_path": "",
            "path": unquote(url.path.decode("ascii")),
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self.headers,
        }


class RequestReceiver(Protocol):
    """Receives the parts of requests. A problem that it raises ends the parsing."""

    def head_received(self, head: ParsedHead) -> None:
        """Begin a request."""

    def body_received(self, piece: bytes) -> None:
        """Add a piece to the body of the request."""

    def request_received(self) -> None:
        """End the request."""


class RequestParser:
    """Parses the requests of a connection one after another."""

    def __init__(self, receiver: RequestReceiver) -> None:
        self._receiver = receiver
        self._parser = httptools.HttpRequestParser(self)
        self.is_in_head = False
        self._target = b""  # of the latest request, perhaps incomplete
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        self._host_count = 0  # Host headers in the current head
        self._moved = False  # the parser made progress with the last data
        self._unseen = 0  # bytes since the parser last made progress
        self._length = 0  # bytes of the last data
        self._head_length = 0  # bytes since the data in which the current head began
        self._skips_head = False
        self._has_begun = False  # a request of this connection has a head

    @property
    def path(self) -> str:
        """The path of the latest request, empty if it is not known yet."""
        try:
            path = httptools.parse_url(self._target).path or b""
        except httptools.HttpParserInvalidURLError:  # such as one longer than 64 KiB
            path = self._target.partition(b"?")[0]
        return unquote(path.decode("latin-1"))

    def close(self) -> None:
        """End the parsing."""
        del self._parser  # its callbacks belong to this object: a cycle

    def feed(self, data: bytes) -> None:
        """Parse the next bytes.

        Raises:
            Problem: they are not a request, or over a limit.
        """
        self._moved = False
        self._length = len(data)
        self._head_length += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as exc:
            raise self._problem_of(exc, data) from exc
        self._unseen = 0 if self._moved else self._unseen + len(data)
        if self._unseen > MAX_HEAD:
            raise head_too_large()

    def on_message_begin(self) -> None:
        if self._skips_head:
            return
        self._moved = self.is_in_head = True
        self._head_length = self._length
        self._host_count = 0
        self._expects_continue = False
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        if not self._skips_head:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.rstrip(b" \t")  # RFC 9110, section 5.5; httptools strips the front only
        if name in _CHECKED and self.is_in_head:
            self._check_header(name, value)
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._skips_head:
            return
        version = self._parser.get_http_version()
        if version != "1.1" and version != "1.0":  # noqa: PLR1714 - the fastest form
            raise unknown_version(version)
        if not self._host_count and version == "1.1":  # RFC 9112, section 3.2
            raise not_http("it has no Host header")
        if self._head_length > MAX_HEAD and self._head_size() > MAX_HEAD:
            raise head_too_large()
        self._moved = self._has_begun = True
        self.is_in_head = False
        self._receiver.head_received(
            ParsedHead(
                self._parser.get_method(),
                self._target,
                self._headers,
                version,
                version == "1.1" and self._parser.should_keep_alive(),
                self._expects_continue,
            )
        )
        if not self._parser.should_upgrade():
            self._headers = []  # for trailers, which are no part of the request

    def on_body(self, body: bytes) -> None:
        self._moved = True
        self._receiver.body_received(body)

    def on_message_complete(self) -> None:
        self._moved = True
        if self._parser.should_upgrade() and self._framing():
            return  # its body has not been read yet: see _feed
        self._receiver.request_received()

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._skip_upgrade(data[exc.args[0] :])

    def _skip_upgrade(self, rest: bytes) -> None:
        """Continue as if no upgrade had been requested (RFC 9110, 7.8).

        httptools does not read the body of a request that asks for an upgrade. A new parser gets
        the framing of the body, and continues there.
        """
        framing = self._framing()
        self._parser = httptools.HttpRequestParser(self)
        self._headers = []
        if framing:
            self._skips_head = True
            lines = b"".join(b"%b: %b\r\n" % header for header in framing)
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % lines)
            self._skips_head = False
        if rest:
            self._feed(rest)

    def _framing(self) -> list[tuple[bytes, bytes]]:
        return [header for header in self._headers if header[0] in _FRAMING]

    def _problem_of(self, exc: httptools.HttpParserError, data: bytes) -> Problem:
        """Return the problem of bytes that cannot be parsed."""
        if isinstance(exc, httptools.HttpParserCallbackError):
            cause = exc.__context__
            if not isinstance(cause, Problem):
                raise cause or exc
            return cause
        other = None if self._has_begun else other_protocol(data)
        return not_http(str(exc)) if other is None else other

    def _check_header(self, name: bytes, value: bytes) -> None:
        """Check a header that httptools does not check."""
        match name:
            case b"host":
                self._host_count += 1
                if self._host_count > 1:
                    raise not_http("it has more than one Host header")
                if not _is_host(value):
                    raise not_http(f"its Host is {quoted(value)}, which is not a host")
            case b"expect":
                self._expects_continue = value.lower() == b"100-continue"
            case b"transfer-encoding":  # RFC 9112, section 6.1
                if value.lower() != b"chunked":
                    raise unknown_coding(value)
                if self._parser.get_http_version() == "1.0":
                    raise not_http("HTTP/1.0 has no Transfer-Encoding")
            case b"content-encoding":
                if value.lower() not in (b"", b"identity"):
                    raise compressed(value)

    def _head_size(self) -> int:
        return len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)


@lru_cache(maxsize=64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None
