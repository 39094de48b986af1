"""Requests that violate HTTP: each is refused with a reason, and the server continues."""

from __future__ import annotations

import pytest

from tests.acceptance.harness import Server
from tests.hostile.wire import HOST, TASK, head, push, say

KIB = 1024
GET = b"GET /healthz HTTP/1.1"
TOO_MANY = b"".join(b"X-%d: a\r\n" % number for number in range(10_000))

NOT_HTTP = {
    "garbage": b"\x00\xff\xfe garbage\r\n\r\n",
    "words": b"hello\r\n\r\n",
    "tls": bytes.fromhex("16030100a5010000a10303") + b"\x01" * 160,
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown version": b"GET /healthz HTTP/1.9\r\n\r\n",
    "unknown method": head(b"BREW /healthz HTTP/1.1"),
    "endless method": b"A" * 70 * KIB,
    "no target": head(b"GET  HTTP/1.1"),
    "target of bytes": head(b"GET /v1/t\xff\xfe HTTP/1.1"),
    "query of bytes": head(b"GET /v1/tasks?queue=\xff\xfe HTTP/1.1"),
    "tunnel": head(b"CONNECT a:80 HTTP/1.1"),
    "bare LF": b"GET /healthz HTTP/1.1\nHost: a\n\n",
    "folded header": head(GET, b"X: a\r\n b"),
    "space before colon": head(GET, b"X : a"),
    "name of bytes": head(GET, b"X\xe9: a"),
    "NUL in header": head(GET, b"X: a\0b"),
    "length and chunks": push(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0"),
    "chunks and length": push(b"Transfer-Encoding: chunked", b"Content-Length: 6", body=b"0"),
    "two lengths": push(b"Content-Length: 6", b"Content-Length: 7"),
    "one length twice": push(b"Content-Length: 27", b"Content-Length: 27"),
    "negative length": push(b"Content-Length: -6"),
    "signed length": push(b"Content-Length: +27"),
    "endless length": push(b"Content-Length: 99999999999999999999999"),
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": head(GET, b"Host: 127.0.0.1"),
    "two different hosts": head(GET, b"hOST: other"),
    "hosts in a list": b"GET /healthz HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "host with a user": b"GET /healthz HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "host with a path": b"GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host of bytes": b"GET /healthz HTTP/1.1\r\nHost: a\xff\r\n\r\n",
    "two hosts in HTTP/1.0": b"GET /healthz HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in chunks": push(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "chunks not last": push(b"Transfer-Encoding: chunked, gzip"),
    "chunk without a size": push(b"Transfer-Encoding: chunked", body=b"zz\r\n\r\n"),
    "chunk too large to count": push(b"Transfer-Encoding: chunked", body=b"f" * 20 + b"\r\n\r\n"),
}
UNSUPPORTED = {
    "unknown coding": (push(b"Transfer-Encoding: xchunked"), 501, "unsupported-transfer-encoding"),
    "compressed chunks": (
        push(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        501,
        "unsupported-transfer-encoding",
    ),
    "codings one by one": (
        push(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        501,
        "unsupported-transfer-encoding",
    ),
    "compressed body": (push(b"Content-Encoding: gzip"), 415, "unsupported-content-encoding"),
    "older version": (head(b"GET /healthz HTTP/0.9"), 505, "unsupported-version"),
    "newer version": (head(b"GET /healthz HTTP/2.0"), 505, "unsupported-version"),
}
TOO_LARGE = {
    "header": head(GET, b"X: " + b"a" * 66 * KIB),
    "headers": GET + b"\r\n" + HOST + TOO_MANY + b"\r\n",
    "target": head(b"GET /" + b"a" * 66 * KIB + b" HTTP/1.1"),
    "header without an end": GET + b"\r\n" + HOST + b"X: " + b"a" * 1024 * KIB,
    "headers without an end": GET + b"\r\n" + HOST + TOO_MANY * 10,
}
UNUSUAL = {
    "HTTP/1.0": b"GET /healthz HTTP/1.0\r\n\r\n",
    "empty host": b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
    "IPv6": b"GET /healthz HTTP/1.1\r\nHost: [::1]:7991\r\n\r\n",
    "identity": head(GET, b"Content-Encoding: identity"),
    "capitals": push(
        b"Transfer-Encoding: Chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(TASK), TASK)
    ),
    "spaces": b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1 \t\r\n\r\n",
    "spaces of coding": push(
        b"Transfer-Encoding: chunked ", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(TASK), TASK)
    ),
}


@pytest.mark.parametrize("request_", NOT_HTTP.values(), ids=NOT_HTTP)
def test_invalid_http_request_is_refused(server: Server, request_: bytes) -> None:
    said = say(server, request_)

    assert (said.statuses, said.code) == ([400], "refused")
    assert b"connection: close\r\n" in said.raw


@pytest.mark.parametrize(("request_", "status", "code"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported_request_is_refused(
    server: Server, request_: bytes, status: int, code: str
) -> None:
    said = say(server, request_)

    assert (said.statuses, said.code) == ([status], code)
    assert b"connection: close\r\n" in said.raw


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (NOT_HTTP["tls"], "TLS"),
        (NOT_HTTP["http2"], "HTTP/2"),
        (NOT_HTTP["no host"], "no Host"),
        (NOT_HTTP["unknown method"], "method"),
        (NOT_HTTP["target of bytes"], "url path"),
        (UNSUPPORTED["compressed body"][0], "Content-Encoding 'gzip'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusal_names_the_error(server: Server, request_: bytes, reason: str) -> None:
    assert reason in say(server, request_).detail


@pytest.mark.parametrize("request_", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_request_is_answered(server: Server, request_: bytes) -> None:
    assert say(server, request_).statuses[0] in (200, 201)


@pytest.mark.parametrize("request_", TOO_LARGE.values(), ids=TOO_LARGE)
def test_head_over_its_limit_is_refused(server: Server, request_: bytes) -> None:
    said = say(server, request_)

    assert (said.statuses, said.code) == ([431], "head-too-large")


def test_head_just_below_its_limit_is_accepted(server: Server) -> None:
    assert say(server, head(GET, b"X: " + b"a" * 60 * KIB)).statuses == [200]


def test_trailers_are_not_read_as_headers(server: Server) -> None:
    body = b"%x\r\n%b\r\n0\r\nTraceparent: x\r\n\r\n" % (len(TASK), TASK)

    said = say(server, push(b"Transfer-Encoding: chunked", body=body))

    assert said.statuses == [201]
    assert b"raceparent" not in said.raw


@pytest.mark.parametrize(
    ("name", "prefix"), [("trailers", b"0\r\n"), ("extension", b"1;")], ids=["trailers", "chunk"]
)
def test_invalid_body_does_not_block_the_connection(
    server: Server, name: str, prefix: bytes
) -> None:
    begun = push(b"Transfer-Encoding: chunked", body=prefix)

    said = say(server, begun, *[b"X: " + b"a" * 64 * KIB] * 40)

    assert 400 <= said.statuses[-1] < 500, name


def test_requested_upgrade_is_ignored_and_the_body_is_read(server: Server) -> None:
    """Java's client asks for HTTP/2 with each request, with or without a body."""
    length = b"Content-Length: %d" % len(TASK)
    upgrade = push(length, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c")

    said = say(server, upgrade, upgrade, head(GET), answers=3)

    assert said.statuses == [201, 201, 200]


def test_requested_upgrade_is_ignored_with_slow_chunks(server: Server) -> None:
    framing = b"Transfer-Encoding: chunked"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(TASK), TASK)
    begun = head(
        b"POST /v1/tasks HTTP/1.1", framing, b"Connection: Upgrade", b"Upgrade: websocket"
    )

    said = say(server, begun, *(body[at : at + 1] for at in range(len(body))))

    assert said.statuses == [201]


def test_garbage_after_a_request_does_not_prevent_its_answer(server: Server) -> None:
    said = say(server, push() + b"GARBAGE\x00\r\n\r\n", answers=2)

    assert said.statuses == [201]
    assert said.ended


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    missing = head(b"GET /nothing HTTP/1.1")

    said = say(server, (push() + missing) * 10, answers=20)

    assert said.statuses == [201, 404] * 10


def test_thousands_of_pipelined_requests_are_refused(server: Server) -> None:
    said = say(server, head(GET) * 5_000, answers=5_000)

    assert said.ended
    assert set(said.statuses) == {200}
    assert len(said.statuses) < 5_000


def test_truncated_body_affects_no_other_client(server: Server) -> None:
    said = say(server, push(b"Content-Length: 60", b"Connection: close") + b"\x00" * 33)

    assert said.statuses == [400]
