"""A reader turns every sequence of bytes into a response or a broken answer."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from poussetaches.http_client.errors import BrokenAnswer
from poussetaches.http_client.response_reader import MAX_HEADERS, ResponseReader

LIMIT = 64
PIECES = [
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 500 No\r\n", b"HTTP/1.1 204 \r\n", b"HTTP/1.1 100 C\r\n"),
    *(b"HTTP/1.1 304 N\r\n", b"HTTP/1.1 101 S\r\n", b"HTTP/2.0 200 OK\r\n", b"HTTP/1.1 2"),
    *(b"Content-Length: 2\r\n", b"Content-Length: 0\r\n", b"content-length: 99\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Upgrade: h2c\r\n", b"X: y\r\n"),
    *(b"\r\n", b"\r", b"\n", b" ", b"\0", b":", b"ok", b"2\r\nok\r\n", b"0\r\n\r\n", b"0\r\n"),
    *(b"ffffffffffffffff\r\n", b"1;a=b\r\nx\r\n", b"X: " + b"a" * 70_000 + b"\r\n"),
]
data = st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=12).map(b"".join)
likely = st.tuples(st.sampled_from(PIECES[:8]), data).map(b"".join)
methods = st.sampled_from(["POST", "GET", "HEAD"])

Seen = tuple[int, bytes, bool] | str


def seen(pieces: list[bytes], method: str) -> Seen:
    """Return the response, and whether the connection is reusable; or "broken"."""
    reader = ResponseReader()
    reader.begin(method=method, limit=LIMIT)
    try:
        for piece in pieces:
            reader.feed(piece)
        if not reader.is_complete:
            reader.end()
    except BrokenAnswer as exc:
        assert str(exc)
        return "broken"
    assert reader.response is not None
    assert len(reader.response.headers) <= MAX_HEADERS
    assert 100 < reader.response.status < 1000
    return reader.response.status, reader.response.body[:LIMIT], reader.is_reusable


@given(likely | data, methods)
@example(b"", "POST")
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP", "POST")
def test_every_byte_sequence_ends_in_a_response_or_a_broken_answer(
    data: bytes, method: str
) -> None:
    seen([data], method)


@given(likely, methods, st.lists(st.integers(0, 200), max_size=6))
def test_pieces_make_no_difference(data: bytes, method: str, cuts: list[int]) -> None:
    places = sorted({0, *cuts, len(data)})
    pieces = [data[a:b] for a, b in pairwise(places) if data[a:b]]

    whole, split = seen([data], method), seen(pieces, method)

    # Data after a complete response may come too late to be seen.
    assert split == whole or (split[:2] == whole[:2] and split[2])
