"""``ResponseReader``: the framing and the limits of responses (RFC 9112), without any I/O."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import httptools
import msgspec

from poussetaches.http_client.errors import BrokenAnswer, NotHttp

MAX_HEAD = 64 * 1024  # bytes of a head, of chunk extensions, and of trailers
MAX_HEADERS = 100
MAX_INFORMATIONAL = 100  # 1xx responses before the final one
HEAD_TOO_LARGE = (
    f"the answer has more than {MAX_HEADERS} headers, or a head longer than {MAX_HEAD >> 10} KiB"
)

_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)  # RFC 9112, section 6.3
_VERSIONS = ("1.1", "1.0")


class Response(msgspec.Struct, gc=False):
    """A response. Names of headers are in lower case; of repeated headers, the first one counts.

    The body may be cut off at the limit.
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return the value of a header, empty if it is missing or not UTF-8."""
        try:
            return self.headers.get(name.lower().encode(), b"").decode()
        except UnicodeDecodeError:
            return ""


class ResponseReader:
    """Reads the responses of one connection, one after the other.

    ``begin`` must be called for each request. Every error is a ``BrokenAnswer``; the connection
    cannot be used any more.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._in_message = False  # the parser awaits the rest of a message
        self._is_head = False
        self._limit = 0
        self._sink: Callable[[bytes], None] | None = None
        self._reset()
        self.is_complete = True

    def begin(
        self, *, method: str, limit: int = 0, sink: Callable[[bytes], None] | None = None
    ) -> None:
        """Expect the response to a request.

        The response gets at most ``limit`` bytes of the body; ``sink`` gets the whole of it.
        """
        if self._in_message:
            self._parser = httptools.HttpResponseParser(self)
        self._is_head = method == "HEAD"
        self._limit = limit
        self._sink = sink
        self._reset()

    def _reset(self) -> None:
        self.is_complete = False
        self.is_reusable = False  # the connection, for another request
        self.has_begun = False  # at least one byte of the response was read
        self.response: Response | None = None  # its head, and in the end its body
        self._headers: dict[bytes, bytes] = {}
        self._head_size = 0
        self._informational_count = 0
        self._unseen = 0  # bytes since the parser last made progress
        self._moved = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._ends_with_connection = False
        self._error: str | None = None

    def feed(self, data: bytes) -> None:
        """Read data. Data after the end of the response makes the connection unusable.

        Raises:
            BrokenAnswer: it is not a valid response.
        """
        self.has_begun = True
        self._moved = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            if self.is_complete:
                self.is_reusable = False
                return
            if self._error is None and self.response is None:
                raise self.broken(f"the answer is not valid HTTP: {exc}", NotHttp) from None
            raise self.broken(self._error or f"the answer is not valid HTTP: {exc}") from None
        except httptools.HttpParserUpgrade:
            raise self.broken("the answer switches to another protocol") from None
        if not self._moved:
            self._unseen += len(data)
            if self._unseen > MAX_HEAD and not self.is_complete:
                raise self.broken(HEAD_TOO_LARGE)

    def end(self) -> None:
        """Read the end of the connection.

        Raises:
            BrokenAnswer: the response is incomplete.
        """
        if not self._ends_with_connection:
            raise self.broken("the connection was closed before the answer was complete")
        self._complete()

    def on_message_begin(self) -> None:
        if self.is_complete:
            self.is_reusable = False
        self._in_message = True
        self._moved = True
        self._unseen = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.response is not None:
            return  # a trailer
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEAD or len(self._headers) == MAX_HEADERS:
            self._fail(HEAD_TOO_LARGE)
        self._headers.setdefault(name.lower(), value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        if self.is_complete:
            return
        parser = self._parser
        if parser.get_http_version() not in _VERSIONS:
            self._fail(f"the answer is HTTP/{parser.get_http_version()}")
        self._made_progress()
        status = parser.get_status_code()
        if status < HTTPStatus.OK:
            self._skip_informational(status)
            return
        self.response = Response(status, self._headers)
        if self._is_head or status in _WITHOUT_BODY:
            self._complete(is_reusable=parser.should_keep_alive())
        else:
            self._ends_with_connection = _is_unframed(self._headers)

    def on_body(self, data: bytes) -> None:
        if self.is_complete:
            self.is_reusable = False
            return
        self._made_progress()
        if self._sink is not None:
            self._sink(data)
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= self._limit:
            self._complete()

    def on_message_complete(self) -> None:
        self._in_message = False
        if not self.is_complete and self.response is not None:
            self._complete(is_reusable=self._parser.should_keep_alive())

    def _made_progress(self) -> None:
        self._moved = True
        self._unseen = 0

    def _skip_informational(self, status: int) -> None:
        """Skip a 1xx response (RFC 9110, section 15.2)."""
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._fail("the answer switches to another protocol")
        self._informational_count += 1
        if self._informational_count > MAX_INFORMATIONAL:
            self._fail(f"more than {MAX_INFORMATIONAL} responses 1xx, and no final one")
        self._headers = {}
        self._head_size = 0

    def _complete(self, *, is_reusable: bool = False) -> None:
        assert self.response is not None
        pieces = self._pieces
        self.response.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.is_complete = True
        self.is_reusable = is_reusable

    def _fail(self, reason: str) -> None:
        """Stop the parser."""
        self._error = reason
        raise ValueError(reason)

    def broken(self, reason: str, kind: type[BrokenAnswer] = BrokenAnswer) -> BrokenAnswer:
        """Return the error of a response that is not read any further."""
        self.is_complete = True
        self.is_reusable = False
        return kind(reason, None if self.response is None else self.response.status)


def _is_unframed(headers: dict[bytes, bytes]) -> bool:
    """Return whether a body ends with the connection (RFC 9112, section 6.3)."""
    coding = headers.get(b"transfer-encoding")
    if coding is None:
        return b"content-length" not in headers
    return not coding.lower().endswith(b"chunked")
