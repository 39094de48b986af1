"""Attempts at receivers that violate HTTP: each ends in time, with a clear error."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trustme

from poussetaches.core.task import Outcome
from poussetaches.engine.answer import MAX_BODY
from poussetaches.engine.request import Request
from poussetaches.engine.sender import HttpSender
from tests.factories import NOW
from tests.hostile.receivers import (
    PIECE,
    Handler,
    answers,
    dribbles,
    misbehaving,
    repeats,
    silent,
    stops_after,
    talkative,
)

SHORT = 0.5  # seconds, the timeout of attempts that should time out
PATIENT = 60.0  # seconds, the timeout of attempts that should end before it
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture
async def sender() -> AsyncIterator[HttpSender]:
    sender = HttpSender(connect_timeout=5.0, now=lambda: NOW)
    yield sender
    await sender.close()


async def outcome_of(
    sender: HttpSender,
    handler: Handler,
    *,
    seconds: float = PATIENT,
    tls: ssl.SSLContext | None = None,
) -> Outcome:
    """Return the outcome of an attempt at a receiver."""
    async with misbehaving(handler, tls=tls) as address:
        scheme = "http" if tls is None else "https"
        url = f"{scheme}://{address}/"
        request = Request(method="POST", url=url, headers={}, body=b"hello", timeout=seconds)
        return await sender.send(request)


TOO_SLOW = {
    "silence": silent,
    "head that dribbles": dribbles(b"HTTP/1.1 200 OK\r\nX-"),
    "body that dribbles": dribbles(OK + b"Content-Length: 60000\r\n\r\n"),
    "chunks that dribble": dribbles(CHUNKED + b"ffff\r\n"),
    "body without a length that dribbles": dribbles(OK + b"\r\n"),
    "body that stops": stops_after(OK + b"Content-Length: 9\r\n\r\nhalf"),
}


@pytest.mark.parametrize("handler", TOO_SLOW.values(), ids=TOO_SLOW)
async def test_slow_receiver_is_cut_off_at_the_timeout(
    sender: HttpSender, handler: Handler
) -> None:
    outcome = await outcome_of(sender, handler, seconds=SHORT)

    assert outcome.error == "no answer within 0.5 s"
    assert not outcome.unreachable


FAILS = {
    "hung up": answers(b""),
    "another protocol": answers(b"220 mail.example ESMTP\r\n"),
    "bytes": answers(b"\x00\xff\xfe\r\n\r\n"),
    "status of letters": answers(b"HTTP/1.1 abc OK\r\n\r\n"),
    "status of four digits": answers(b"HTTP/1.1 2000 OK\r\n\r\n"),
    "status that is negative": answers(b"HTTP/1.1 -200 OK\r\n\r\n"),
    "version that is not": answers(b"HTTP/9.9 200 OK\r\n\r\n"),
    "half a head": answers(OK + b"Content-Le"),
    "head without an end": repeats(OK, b"X: a\r\n" * 1000),
    "header without an end": repeats(OK + b"X: ", PIECE),
    "NUL in a header": answers(OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n"),
    "bytes in a name": answers(OK + b"X\xff\xfe: a\r\nContent-Length: 0\r\n\r\n"),
    "length too long": answers(OK + b"Content-Length: 9\r\n\r\nshort"),
    "length that is negative": answers(OK + b"Content-Length: -5\r\n\r\nhello"),
    "length of letters": answers(OK + b"Content-Length: five\r\n\r\nhello"),
    "two lengths": answers(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    "length beyond counting": answers(OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\nhello"),
    "chunk of letters": answers(CHUNKED + b"zz\r\nhello\r\n"),
    "chunk beyond counting": answers(CHUNKED + b"f" * 20 + b"\r\nhello\r\n"),
    "chunk that ends elsewhere": answers(CHUNKED + b"2\r\nhello\r\n0\r\n\r\n"),
    "chunks without an end": answers(CHUNKED + b"5\r\nhello\r\n"),
    "chunk head without an end": repeats(CHUNKED + b"5;", PIECE),
    "trailers without an end": repeats(CHUNKED + b"5\r\nhello\r\n0\r\n", b"X: a\r\n" * 1000),
}
UNREADABLE = ("Error", "Exception", "(Connect)", "client error", "0x", "Some(", "Kind(")


@pytest.mark.parametrize("handler", FAILS.values(), ids=FAILS)
async def test_invalid_http_answer_is_a_failure_with_a_clear_error(
    sender: HttpSender, handler: Handler
) -> None:
    outcome = await outcome_of(sender, handler)

    assert outcome.error
    assert " " in outcome.error
    assert not [jargon for jargon in UNREADABLE if jargon in outcome.error], outcome.error
    assert not outcome.unreachable


async def test_repeated_1xx_responses_are_not_an_answer(sender: HttpSender) -> None:
    outcome = await outcome_of(sender, repeats(b"", CONTINUE * 100), seconds=SHORT)

    assert outcome.error
    assert outcome.status is None
    assert not outcome.unreachable


async def test_answer_after_many_1xx_responses_counts(sender: HttpSender) -> None:
    handler = answers(CONTINUE * 50, OK + b"Content-Length: 2\r\n\r\nok")

    assert await outcome_of(sender, handler) == Outcome(status=200, body=b"ok")


CUT = {
    "without a length": (OK + b"\r\n", PIECE),
    "in chunks": (CHUNKED, b"8000\r\n" + PIECE + b"\r\n"),
    "as long as it says": (OK + b"Content-Length: 99999999999\r\n\r\n", PIECE),
}


@pytest.mark.parametrize(("begin", "piece"), CUT.values(), ids=CUT)
async def test_endless_body_is_truncated_and_its_status_counts(
    sender: HttpSender, begin: bytes, piece: bytes
) -> None:
    outcome = await outcome_of(sender, repeats(begin, piece))

    assert outcome == Outcome(status=200, body=b"x" * MAX_BODY, truncated=True)


async def test_compressed_body_is_not_decompressed(sender: HttpSender) -> None:
    bomb = gzip.compress(bytes(100 << 20), 9)
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)

    outcome = await outcome_of(sender, answers(head + bomb))

    assert outcome == Outcome(status=200, body=bomb[:MAX_BODY], truncated=True)


async def test_redirect_loop_is_not_followed(sender: HttpSender) -> None:
    count = 0

    async def circle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        answer = b"HTTP/1.1 308 Again\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"
        await answers(answer)(reader, writer)

    outcome = await outcome_of(sender, circle)

    redirect = "a redirect to /, and redirects are not followed"
    assert (outcome, count) == (Outcome(status=308, redirect=redirect), 1)


async def test_unrequested_answers_are_not_used_for_later_requests(sender: HttpSender) -> None:
    async with misbehaving(talkative) as address:
        request = Request(
            method="POST", url=f"http://{address}/", headers={}, body=b"", timeout=PATIENT
        )
        outcomes = [await sender.send(request) for _ in range(3)]

    assert all(one.status == 200 or one.error for one in outcomes)
    assert not any(one.unreachable for one in outcomes)


async def test_binary_answer_is_kept_unchanged(sender: HttpSender) -> None:
    head = OK + b"X-Odd: \xff\xfe\r\nContent-Length: 4\r\n\r\n"

    outcome = await outcome_of(sender, answers(head + b"\x00\xff\xfe\n"))

    assert outcome == Outcome(status=200, body=b"\x00\xff\xfe\n")


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that senders trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "trusted.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    return authority


def context_of(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


def of_the_trusted(authority: trustme.CA) -> ssl.SSLContext:
    return context_of(authority.issue_cert("127.0.0.1"))


def unknown_authority(_: trustme.CA) -> ssl.SSLContext:
    return context_of(trustme.CA().issue_cert("127.0.0.1"))


def other_name(authority: trustme.CA) -> ssl.SSLContext:
    return context_of(authority.issue_cert("other.example"))


def expired(authority: trustme.CA) -> ssl.SSLContext:
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return context_of(authority.issue_cert("127.0.0.1", not_after=past))


def without_a_name(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    pem = authority.private_key_pem.bytes() + authority.cert_pem.bytes()
    with trustme.Blob(pem).tempfile() as path:
        context.load_cert_chain(path)
    return context


async def test_certificate_of_an_authority_in_ssl_cert_file_is_trusted(
    authority: trustme.CA, sender: HttpSender
) -> None:
    outcome = await outcome_of(
        sender, answers(OK + b"Content-Length: 2\r\n\r\nhi"), tls=of_the_trusted(authority)
    )

    assert (outcome.status, outcome.body, outcome.error) == (200, b"hi", None)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (unknown_authority, "no authority that the system or SSL_CERT_FILE trusts"),
        (other_name, 'certificate not valid for name "127.0.0.1"'),
        (expired, "certificate expired"),
        (without_a_name, 'certificate not valid for name "127.0.0.1"'),
    ],
)
async def test_invalid_certificate_is_an_ordinary_failure(
    authority: trustme.CA,
    sender: HttpSender,
    make: Callable[[trustme.CA], ssl.SSLContext],
    reason: str,
) -> None:
    outcome = await outcome_of(sender, silent, tls=make(authority))

    assert (outcome.error or "").startswith("no secure connection: ")
    assert reason in (outcome.error or "")
    assert not outcome.unreachable
