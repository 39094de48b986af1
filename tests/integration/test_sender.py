"""Attempts against receivers that misbehave, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from poussetaches.core.cause import Cause
from poussetaches.core.task import Outcome
from poussetaches.engine.answer import MAX_BODY
from poussetaches.engine.request import Request
from poussetaches.engine.resolver import Resolver
from poussetaches.engine.secret_mask import SecretMask
from poussetaches.engine.sender import HttpSender
from tests.factories import NOW
from tests.hostile.receivers import Handler, misbehaving

CONNECT_TIMEOUT = 0.3
TIMEOUT = 0.6
PATIENT = 20.0  # for what must end by itself


@pytest.fixture
async def sender() -> AsyncIterator[HttpSender]:
    sender = HttpSender(connect_timeout=CONNECT_TIMEOUT, now=lambda: NOW)
    yield sender
    await sender.close()


@pytest.fixture
async def nowhere() -> AsyncIterator[HttpSender]:
    """Return a sender for which no name exists."""

    def look_up(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    resolver = Resolver(lookup=look_up)
    sender = HttpSender(connect_timeout=CONNECT_TIMEOUT, now=lambda: NOW, resolver=resolver)
    yield sender
    await sender.close()


def request_to(url: str, *, timeout: float = PATIENT, body: bytes = b"hello") -> Request:
    """Return a request as an attempt makes it."""
    return Request(method="POST", url=url, headers={"X-Own": "1"}, body=body, timeout=timeout)


def answers(answer: bytes) -> Handler:
    """Return a handler that reads the request's head and writes these bytes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return handle


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Read until the client disconnects, and send nothing."""
    while await reader.read(65_536):
        pass


async def outcome_of(sender: HttpSender, answer: bytes) -> Outcome:
    """Return the outcome of an attempt that is answered by these bytes."""
    async with misbehaving(answers(answer)) as address:
        return await sender.send(request_to(f"http://{address}/"))


def head(*lines: str) -> bytes:
    """Return the head of an answer."""
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


@pytest.fixture
def closed_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


async def test_answer_is_status_and_body(sender: HttpSender) -> None:
    outcome = await outcome_of(sender, head("HTTP/1.1 201 Created", "Content-Length: 4") + b"done")

    assert outcome == Outcome(status=201, body=b"done")


@pytest.mark.parametrize(
    ("method", "has_length"),
    [("POST", True), ("PUT", True), ("PATCH", True), ("GET", False), ("HEAD", False)],
)
async def test_empty_body_has_a_length_where_one_is_expected(
    sender: HttpSender, method: str, has_length: bool
) -> None:
    seen = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(head("HTTP/1.1 204 No Content"))

    async with misbehaving(handle) as address:
        request = request_to(f"http://{address}/", body=b"")
        await sender.send(msgspec.structs.replace(request, method=method))

    assert (b"content-length: 0" in seen.lower()) is has_length
    assert b"transfer-encoding" not in seen.lower()


async def test_request_goes_out_as_it_is(sender: HttpSender) -> None:
    seen = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readuntil(b"\r\n\r\n"))
        seen.extend(await reader.readexactly(5))
        writer.write(head("HTTP/1.1 204 No Content"))

    async with misbehaving(handle) as address:
        await sender.send(request_to(f"http://{address}/path?q=1#part"))

    assert seen.startswith(b"POST /path?q=1 HTTP/1.1\r\n")
    assert b"x-own: 1\r\n" in seen.lower()
    assert b"content-length: 5\r\n" in seen.lower()
    assert b"accept-encoding" not in seen.lower()
    assert seen.endswith(b"hello")


async def test_refused_connection_is_unreachable(sender: HttpSender, closed_port: int) -> None:
    outcome = await sender.send(request_to(f"http://127.0.0.1:{closed_port}/"))

    assert (outcome.status, outcome.unreachable, outcome.unknown_host) == (None, True, False)
    assert "cannot connect" in (outcome.error or "")


async def test_unknown_host_is_unreachable(nowhere: HttpSender) -> None:
    outcome = await nowhere.send(request_to("http://nosuch.invalid/"))

    assert (outcome.unreachable, outcome.unknown_host) == (True, True)
    assert "nosuch.invalid cannot be resolved" in (outcome.error or "")


@asynccontextmanager
async def full_backlog(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Listen and never accept, the queue of connections being full; yield the port."""
    with socket.socket() as listener:
        listener.bind((host, port))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        try:
            for connection in waiting:
                connection.setblocking(False)
                connection.connect_ex((host, port))
            yield port
        finally:
            for connection in waiting:
                connection.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_connection_that_is_not_made_in_time_is_unreachable(
    sender: HttpSender, scheme: str
) -> None:
    async with full_backlog() as port:
        outcome = await sender.send(request_to(f"{scheme}://127.0.0.1:{port}/"))

    assert outcome == Outcome(error="no connection within 0.3 s", cause=Cause.NOT_CONNECTED)


async def test_https_to_a_refused_port_is_unreachable(
    sender: HttpSender, closed_port: int
) -> None:
    outcome = await sender.send(request_to(f"https://127.0.0.1:{closed_port}/"))

    assert outcome.unreachable


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Use up this process's file descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        highest = stack.enter_context(Path(os.devnull).open()).fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with suppress(OSError):
            while True:
                stack.enter_context(Path(os.devnull).open())
        yield


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "https://127.0.0.1:9", "http://localhost:9"]
)
async def test_lack_of_descriptors_is_not_the_targets_fault(sender: HttpSender, url: str) -> None:
    assert sender.trust_problem() is None  # a client that has read its authorities
    with no_descriptors():
        outcome = await sender.send(request_to(url))
        probe = await sender.probe(url)

    for found in (outcome, probe):
        assert found is not None
        assert found.out_of_resources
        assert not found.unreachable
        assert "Too many open files" in (found.error or "")


async def test_authorities_that_could_not_be_read_without_descriptors_are_read_later(
    sender: HttpSender, closed_port: int
) -> None:
    request = request_to(f"https://127.0.0.1:{closed_port}/")
    with no_descriptors():
        outcome = await sender.send(request)

    assert outcome.out_of_resources
    assert (await sender.send(request)).unreachable


async def test_receiver_that_never_answers_is_an_ordinary_failure(sender: HttpSender) -> None:
    async with misbehaving(silent) as address:
        outcome = await sender.send(request_to(f"http://{address}/", timeout=TIMEOUT))

    assert outcome == Outcome(error="no answer within 0.6 s", cause=Cause.TIMEOUT)


async def test_receiver_that_never_reads_is_an_ordinary_failure(sender: HttpSender) -> None:
    async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.get_running_loop().create_future()

    async with misbehaving(deaf) as address:
        request = request_to(f"http://{address}/", timeout=TIMEOUT, body=bytes(16 << 20))
        outcome = await sender.send(request)

    assert outcome == Outcome(error="no answer within 0.6 s", cause=Cause.TIMEOUT)


async def test_body_that_never_ends_in_silence_is_a_failure(sender: HttpSender) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answers(head("HTTP/1.1 200 OK", "Content-Length: 10") + b"half")(reader, writer)
        await silent(reader, writer)

    async with misbehaving(handle) as address:
        outcome = await sender.send(request_to(f"http://{address}/", timeout=TIMEOUT))

    assert outcome.error == "no answer within 0.6 s"
    assert not outcome.unreachable


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="closed without an answer"),
        pytest.param(b"SMTP ready\r\n\r\n", id="not HTTP"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="status that is no number"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="head that breaks off"),
        pytest.param(head("HTTP/1.1 200 OK", "Content-Length: 9") + b"short", id="short body"),
        pytest.param(
            head("HTTP/1.1 200 OK", "Content-Length: 99999") + b"x" * 50_000, id="short long body"
        ),
        pytest.param(
            head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + b"5\r\nhello\r\nzz\r\n",
            id="broken chunk",
        ),
        pytest.param(
            head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n",
            id="no last chunk",
        ),
    ],
)
async def test_answer_that_breaks_off_is_a_failure_whatever_its_status(
    sender: HttpSender, answer: bytes
) -> None:
    outcome = await outcome_of(sender, answer)

    assert outcome.error
    assert not outcome.unreachable


async def test_https_to_a_port_that_speaks_no_tls_is_an_ordinary_failure(
    sender: HttpSender,
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with misbehaving(handle) as address:
        outcome = await sender.send(request_to(f"https://{address}/"))

    assert "no secure connection" in (outcome.error or "")
    assert not outcome.unreachable


async def test_handshake_that_hangs_is_an_ordinary_failure(sender: HttpSender) -> None:
    async with misbehaving(silent) as address:
        outcome = await sender.send(request_to(f"https://{address}/"))

    assert outcome == Outcome(error="no TLS handshake within 0.3 s", cause=Cause.TLS_FAILED)


@pytest.mark.parametrize("status", [200, 500])
async def test_endless_body_is_cut_and_the_status_decides(sender: HttpSender, status: int) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(f"HTTP/1.1 {status} Whatever"))
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    async with misbehaving(handle) as address:
        outcome = await sender.send(request_to(f"http://{address}/"))

    assert outcome == Outcome(status=status, body=b"x" * MAX_BODY, truncated=True)


async def test_body_of_the_greatest_length_is_kept_whole(sender: HttpSender) -> None:
    answer = head("HTTP/1.1 200 OK", f"Content-Length: {MAX_BODY}") + b"x" * MAX_BODY

    assert await outcome_of(sender, answer) == Outcome(status=200, body=b"x" * MAX_BODY)


async def test_body_that_comes_in_pieces_is_kept_whole(sender: HttpSender) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"))
        for piece in (b"2\r\nin\r\n", b"7\r\n pieces\r\n", b"0\r\n\r\n"):
            await writer.drain()
            writer.write(piece)
        await writer.drain()

    async with misbehaving(handle) as address:
        outcome = await sender.send(request_to(f"http://{address}/"))

    assert outcome == Outcome(status=200, body=b"in pieces")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_an_answer_and_not_followed(sender: HttpSender, status: int) -> None:
    outcome = await outcome_of(
        sender,
        head(f"HTTP/1.1 {status} Moved", "Location: /elsewhere?token=x", "Content-Length: 0"),
    )

    assert outcome == Outcome(
        status=status,
        redirect="a redirect to /elsewhere?…, and redirects are not followed",
    )


@pytest.mark.parametrize(
    "lines",
    [
        ("HTTP/1.1 302 Found",),
        ("HTTP/1.1 302 Found", "Location: "),
        ("HTTP/1.1 302 Found", "Location: /caf\xe9"),
        ("HTTP/1.1 201 Created", "Location: /elsewhere"),
        ("HTTP/1.1 304 Not Modified", "Location: /elsewhere"),
    ],
    ids=["no location", "empty", "not ASCII", "created", "not modified"],
)
async def test_answer_without_a_location_or_a_redirecting_status_is_not_a_redirect(
    sender: HttpSender, lines: tuple[str, ...]
) -> None:
    outcome = await outcome_of(sender, head(*lines, "Content-Length: 0"))

    assert (outcome.error, outcome.redirect) == (None, None)


async def test_answer_with_too_many_headers_fails_with_the_limit(sender: HttpSender) -> None:
    lines = ["HTTP/1.1 200 OK", "Content-Length: 0"]
    most = [*lines, *(f"X-{number}: 1" for number in range(97))]  # and Connection

    assert await outcome_of(sender, head(*most)) == Outcome(status=200)
    assert await outcome_of(sender, head(*most, "X-More: 1", "X-Most: 1")) == Outcome(
        error="the answer has more than 100 headers, or a head longer than 64 KiB",
        cause=Cause.CONNECTION_LOST,
    )


@pytest.mark.parametrize("left", [0, 1, 8, 25, 26])
async def test_secret_at_the_cut_of_an_answer_is_masked(left: int) -> None:
    secret = "long-and-random/and-secret"
    secret_mask = SecretMask([secret.encode()])
    start = b"x" * (MAX_BODY - left)
    answer = head("HTTP/1.1 500 No") + start + secret.encode() + b"x" * 100

    sender = HttpSender(connect_timeout=CONNECT_TIMEOUT, now=lambda: NOW, secret_mask=secret_mask)
    outcome = await outcome_of(sender, answer)
    await sender.close()

    masked = start + (b"***" if left else b"")
    assert outcome == Outcome(status=500, body=masked, truncated=True)


async def test_secret_in_the_location_of_a_redirect_is_masked() -> None:
    secret_mask = SecretMask([b"long-and-random"])

    sender = HttpSender(connect_timeout=CONNECT_TIMEOUT, now=lambda: NOW, secret_mask=secret_mask)
    lines = ("HTTP/1.1 302 Found", "Location: /a/long-and-random/b", "Content-Length: 0")
    outcome = await outcome_of(sender, head(*lines))
    await sender.close()

    assert outcome.redirect == "a redirect to /a/***/b, and redirects are not followed"


async def test_compressed_body_is_kept_as_it_came(sender: HttpSender) -> None:
    body = gzip.compress(b"hello")
    lines = ("HTTP/1.1 200 OK", "Content-Encoding: gzip", f"Content-Length: {len(body)}")

    assert await outcome_of(sender, head(*lines) + body) == Outcome(status=200, body=body)


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (429, "120", 120.0),
        (503, "0", 0.0),
        (503, "Mon, 21 Sep 2026 14:14:20 GMT", 60.0),
        (503, "Mon, 21 Sep 2026 14:00:00 GMT", 0.0),
        (503, "soon", None),
        (503, "-5", None),
        (503, "1.5", None),
        (503, "9" * 400, float("9" * 12)),
        (503, "Mon, 99 Sep 2026 14:00:00 GMT", None),
        (503, "Mon, 21 Sep 99999 14:00:00 GMT", None),
        (503, "\xe9t\xe9", None),
        (500, "120", None),
    ],
)
async def test_retry_after_is_seconds_or_a_date_on_429_and_503(
    sender: HttpSender, status: int, value: str, seconds: float | None
) -> None:
    lines = (f"HTTP/1.1 {status} No", f"Retry-After: {value}", "Content-Length: 0")

    assert await outcome_of(sender, head(*lines)) == Outcome(status=status, retry_after=seconds)


@pytest.mark.parametrize(("value", "refused"), [("no", True), ("No ", True), ("yes", False)])
async def test_receiver_may_forbid_retries(sender: HttpSender, value: str, refused: bool) -> None:
    lines = ("HTTP/1.1 500 No", f"Poussetaches-Retry: {value}", "Content-Length: 0")

    assert await outcome_of(sender, head(*lines)) == Outcome(status=500, refused=refused)


async def test_header_that_is_no_text_says_nothing(sender: HttpSender) -> None:
    lines = ("HTTP/1.1 500 No", "Poussetaches-Retry: \xff\xfe", "Content-Length: 0")

    assert await outcome_of(sender, head(*lines)) == Outcome(status=500)


async def test_request_that_cannot_be_made_is_a_failure(sender: HttpSender) -> None:
    request = Request(method="POST", url="http://a/", headers={"X": "\n"}, body=b"", timeout=1)

    outcome = await sender.send(request)

    assert "cannot be made" in (outcome.error or "")
    assert not outcome.unreachable


async def test_probe_connects_and_hangs_up(sender: HttpSender) -> None:
    async with misbehaving(silent) as address:
        assert await sender.probe(f"http://{address}") is None


async def test_probe_of_a_refused_port_has_this_error(
    sender: HttpSender, closed_port: int
) -> None:
    outcome = await sender.probe(f"http://127.0.0.1:{closed_port}")

    assert outcome is not None
    assert outcome.unreachable
    assert "cannot connect" in (outcome.error or "")


async def test_probe_that_hangs_ends(sender: HttpSender) -> None:
    async with full_backlog() as port:
        outcome = await sender.probe(f"http://127.0.0.1:{port}")

    assert outcome == Outcome(error="no connection within 0.3 s", cause=Cause.NOT_CONNECTED)


async def test_probe_of_an_unknown_host_has_this_error(nowhere: HttpSender) -> None:
    outcome = await nowhere.probe("http://nosuch.invalid:80")

    assert outcome is not None
    assert outcome.unknown_host
    assert "nosuch.invalid cannot be resolved" in (outcome.error or "")


async def test_probe_connects_to_any_address_of_a_name() -> None:
    resolver = Resolver(lookup=lambda _: ["127.0.0.2", "127.0.0.1"])
    sender = HttpSender(connect_timeout=PATIENT, now=lambda: NOW, resolver=resolver)
    async with misbehaving(silent) as address:
        port = address.rpartition(":")[2]
        assert await sender.probe(f"http://app.example:{port}") is None
    await sender.close()


async def test_silent_address_does_not_hide_one_that_answers() -> None:
    resolver = Resolver(lookup=lambda _: ["127.0.0.2", "127.0.0.1"])
    sender = HttpSender(connect_timeout=CONNECT_TIMEOUT, now=lambda: NOW, resolver=resolver)
    async with misbehaving(silent) as address:
        port = int(address.rpartition(":")[2])
        async with full_backlog("127.0.0.2", port):
            assert await sender.probe(f"http://app.example:{port}") is None
    await sender.close()
