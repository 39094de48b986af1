"""Responses are framed by RFC 9112, in any pieces."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from poussetaches.http_client.errors import BrokenAnswer
from poussetaches.http_client.response_reader import (
    HEAD_TOO_LARGE,
    MAX_HEAD,
    MAX_INFORMATIONAL,
    Response,
    ResponseReader,
)

OK = b"HTTP/1.1 200 OK\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LIMIT = 10  # bytes of a body


def read(*pieces: bytes, method: str = "POST", closes: bool = False) -> ResponseReader:
    """Return a reader that was fed these pieces, and perhaps the end of the connection."""
    reader = ResponseReader()
    reader.begin(method=method, limit=LIMIT)
    feed(reader, pieces, closes=closes)
    return reader


def feed(reader: ResponseReader, pieces: Iterable[bytes], *, closes: bool = False) -> None:
    for piece in pieces:
        reader.feed(piece)
    if closes:
        reader.end()


def bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


COMPLETE = {
    "length": (OK + b"Content-Length: 2\r\n\r\nok", b"ok", True),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", b"", True),
    "chunks": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n",
        b"ok",
        True,
    ),
    "trailers": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"ok",
        True,
    ),
    "close": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    "HTTP/1.0 that keeps the connection": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
        True,
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "304 with the length of another": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        b"",
        True,
    ),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"", True),
    "after 1xx": (CONTINUE * 3 + OK + b"Content-Length: 2\r\n\r\nok", b"ok", True),
    "after early hints": (
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nok",
        b"ok",
        True,
    ),
}


@pytest.mark.parametrize(("data", "body", "is_reusable"), COMPLETE.values(), ids=COMPLETE)
@pytest.mark.parametrize("split", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
def test_response_is_complete_at_its_last_byte(
    data: bytes, body: bytes, is_reusable: bool, split: object
) -> None:
    assert callable(split)
    pieces = split(data)
    reader = read(*pieces[:-1])
    assert not reader.is_complete or len(pieces) == 1

    reader = read(*pieces)

    assert reader.is_complete
    assert reader.response is not None
    assert (reader.response.body, reader.is_reusable) == (body, is_reusable)


def test_body_without_a_length_ends_with_the_connection() -> None:
    assert not read(OK + b"\r\nhello").is_complete

    reader = read(OK + b"\r\nhello", closes=True)

    assert reader.response == Response(200, {}, b"hello")
    assert not reader.is_reusable


def test_coding_other_than_chunked_ends_with_the_connection() -> None:
    reader = read(OK + b"Transfer-Encoding: gzip\r\n\r\nhello", closes=True)

    assert reader.response is not None
    assert reader.response.body == b"hello"


def test_response_to_head_has_no_body_whatever_it_claims() -> None:
    reader = read(OK + b"Content-Length: 9\r\n\r\n", method="HEAD")

    assert (reader.is_complete, reader.is_reusable) == (True, True)
    reader.begin(method="POST", limit=LIMIT)
    reader.feed(OK + b"Content-Length: 2\r\n\r\nok")
    assert reader.response is not None
    assert reader.response.body == b"ok"


def test_body_is_cut_at_the_limit_and_the_connection_not_reused() -> None:
    reader = read(OK + b"Content-Length: 99\r\n\r\n" + b"x" * 20)

    assert reader.response is not None
    assert reader.response.body == b"x" * 20  # what arrived with the limit
    assert (reader.is_complete, reader.is_reusable) == (True, False)


def test_sink_gets_the_whole_body() -> None:
    pieces: list[bytes] = []
    reader = ResponseReader()
    reader.begin(method="GET", sink=pieces.append)

    feed(reader, [OK + b"Content-Length: 20\r\n\r\n" + b"x" * 15, b"y" * 5])

    assert (b"".join(pieces), reader.is_complete) == (b"x" * 15 + b"y" * 5, True)


@pytest.mark.parametrize("more", [b"x", OK, OK + b"Content-Length: 0\r\n\r\n"], ids=repr)
def test_connection_with_data_after_the_response_is_not_reused(more: bytes) -> None:
    reader = read(OK + b"Content-Length: 2\r\n\r\nok" + more)

    assert (reader.is_complete, reader.is_reusable) == (True, False)


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n"])
def test_body_where_none_may_be_makes_the_connection_unusable(head: bytes) -> None:
    reader = read(head + b"ok")

    assert reader.response is not None
    assert (reader.response.body, reader.is_reusable) == (b"", False)


def test_first_of_repeated_headers_counts() -> None:
    reader = read(OK + b"X-A: 1 \t\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n")

    assert reader.response is not None
    assert reader.response.header("X-A") == "1"
    assert reader.response.header("X-B") == ""


BROKEN = {
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "too many 1xx": CONTINUE * (MAX_INFORMATIONAL + 1),
    "request": b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    "broken chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokk\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("split", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
def test_response_that_contradicts_itself_is_broken(data: bytes, split: object) -> None:
    assert callable(split)
    with pytest.raises(BrokenAnswer):
        read(*split(data), closes=True)


@pytest.mark.parametrize(
    "pieces",
    [
        [OK, *[b"X-A: " + b"a" * 1000 + b"\r\n"] * 70],
        [OK + b"X-A: ", *[b"a" * 1000] * 70],
        [OK + b"".join(b"X-%d: 1\r\n" % number for number in range(101)) + b"\r\n"],
        [OK + b"X-A: " + b"a" * (MAX_HEAD + 1) + b"\r\n\r\n"],
        [OK + b"Transfer-Encoding: chunked\r\n\r\n1;", *[b"a" * 1000] * 70],
        [
            OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
            *[b"X-A: " + b"a" * 1000 + b"\r\n"] * 70,
        ],
    ],
    ids=["lines", "one line", "count", "one piece", "chunk extension", "trailers"],
)
def test_head_or_trailers_without_an_end_are_broken(pieces: list[bytes]) -> None:
    with pytest.raises(BrokenAnswer, match=HEAD_TOO_LARGE):
        read(*pieces)


@pytest.mark.parametrize(
    "data",
    [OK, OK + b"Content-Length: 9\r\n\r\nhalf", OK + b"Transfer-Encoding: chunked\r\n\r\n1"],
)
def test_response_that_ends_early_is_broken(data: bytes) -> None:
    with pytest.raises(BrokenAnswer, match="closed before the answer was complete") as raised:
        read(data, closes=True)

    assert raised.value.status == (200 if data != OK else None)
