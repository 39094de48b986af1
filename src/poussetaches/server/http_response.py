"""Responses as bytes of HTTP/1.1."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

from starlette.responses import Response

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_FORBIDDEN = re.compile(rb"[\0\r\n]")  # RFC 9110, section 5.5: they would end the header


def render_response(response: Response, *, keep_alive: bool) -> bytes:
    """Return a response whose body is known, and whose headers have its length.

    Raises:
        ValueError: a header contains a line end.
    """
    head = render_head(response.status_code, response.raw_headers, keep_alive=keep_alive)
    return head + bytes(response.body)


def render_head(status: int, headers: Iterable[tuple[bytes, bytes]], *, keep_alive: bool) -> bytes:
    """Return the status line and the headers.

    Raises:
        ValueError: a header contains a line end.
    """
    pieces = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        if _FORBIDDEN.search(value):
            raise ValueError(f"the header {name!r} contains a line end")
        pieces += (name, b": ", value, b"\r\n")
    pieces.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    return b"".join(pieces)
