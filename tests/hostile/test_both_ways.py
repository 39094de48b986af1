"""Pushes that are answered directly, and over ASGI: the responses have the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from poussetaches.api.auth import Tokens
from tests.effort import examples
from tests.fuzz.test_bodies import originals, tasks
from tests.hostile.test_requests import NOT_HTTP, TOO_LARGE, UNSUPPORTED, UNUSUAL
from tests.hostile.test_values import ALL, BREAKS, NUMBERS, URLS
from tests.hostile.wire import TASK, head, push
from tests.integration.both_ways import BothWays
from tests.integration.v1 import URL

TOKEN = b"Authorization: Bearer writes"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothWays]:
    # Paths of sockets are short: a test's own folder may be too deep.
    both = BothWays(tmp_path_factory.mktemp("s"))
    yield both
    both.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothWays]:
    both = BothWays(tmp_path_factory.mktemp("s"), Tokens("writes", "reads"))
    yield both
    both.close()


def post(*headers: bytes, path: bytes = b"/v1/tasks", body: bytes = TASK) -> bytes:
    """Return a request with a body of known length."""
    length = b"Content-Length: %d" % len(body)
    return head(b"POST %b HTTP/1.1" % path, length, *headers) + body


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    """Return a push in chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return push(b"Transfer-Encoding: chunked", body=body + b"0\r\n" + trailers + b"\r\n")


SHORT = {**NOT_HTTP, **{name: case[0] for name, case in UNSUPPORTED.items()}, **UNUSUAL}
HEADS = {**SHORT, **TOO_LARGE}


@pytest.mark.parametrize("request_", HEADS.values(), ids=HEADS)
def test_odd_head_is_answered_the_same_both_ways(both: BothWays, request_: bytes) -> None:
    assert both.send(request_).startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize("request_", SHORT.values(), ids=SHORT)
def test_odd_head_after_a_push_is_answered_the_same_both_ways(
    both: BothWays, request_: bytes
) -> None:
    assert both.send(post() + request_).startswith(b"HTTP/1.1 201 ")


VALUES = [
    *(f'{{"url": "{URL}", "json": [{number}], "delay": {number}}}' for number in NUMBERS),
    *(json.dumps({"url": url}) for url in URLS),
    *(json.dumps({"url": URL, "headers": {"X-A": "a" + text}}) for text in BREAKS),
    *ALL.values(),
    "[" * 65 + "]" * 65,
    '{"url": "http://first.test/", "url": "http://last.test/"}',
]


@pytest.mark.parametrize("path", [b"/v1/tasks", b"/"])
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_odd_value_is_answered_the_same_both_ways(
    both: BothWays, value: str | bytes, path: bytes
) -> None:
    body = value.encode() if isinstance(value, str) else value
    before = both.direct_count

    responses = both.send(post(path=path, body=body))

    assert responses.startswith(b"HTTP/1.1 ")
    assert both.direct_count == before + (len(body) <= 1 << 16)


PUSHES = {
    "minimal": post(),
    "trace": post(b"Traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
    "key": post(body=b'{"url": "http://app.test/x", "key": "k"}'),
    "key again": post(body=b'{"url": "http://app.test/x", "key": "k"}'),
    "key of another": post(body=b'{"url": "http://app.test/y", "key": "k"}'),
    "unique": post(body=b'{"url": "http://app.test/x", "unique": "u"}') * 2,
    "original": post(path=b"/", body=b'{"url": "http://app.test/", "payload": "e30="}'),
    "schedule": post(path=b"/", body=b'{"url": "http://app.test/", "schedule": "@daily"}'),
    "schedule refused": post(path=b"/", body=b'{"url": "http://app.test/", "schedule": "?"}'),
    "chunks": chunked(TASK[:5], TASK[5:]),
    "trailers": chunked(TASK, trailers=b"Traceparent: x\r\n"),
    "no body": post(body=b""),
    "upgrade": post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"),
    "page": post(b"Origin: http://evil.example"),
    "host": post().replace(b"127.0.0.1", b"evil.example", 1),
    "close": post(b"Connection: close"),
    "HTTP/1.0": post().replace(b"HTTP/1.1", b"HTTP/1.0", 1),
}
OTHERS = {
    "query": post(path=b"/v1/tasks?a=1"),
    "percent": post(path=b"/v1/task%73"),
    "absolute": post(path=b"http://127.0.0.1/v1/tasks"),
    "expect": post(b"Expect: 100-continue"),
    "long": post(body=b'{"url": "http://app.test/x", "text": "%b"}' % (b"a" * (1 << 17))),
    "list": head(b"GET /v1/tasks?limit=2 HTTP/1.1"),
    "head": head(b"HEAD /healthz HTTP/1.1"),
    "unknown": head(b"GET /nothing HTTP/1.1"),
    "other method": head(b"DELETE / HTTP/1.1"),
}
REQUESTS = {**PUSHES, **OTHERS, "garbage": b"\0garbage\r\n\r\n"}


@pytest.mark.parametrize("name", PUSHES)
def test_push_is_answered_directly(both: BothWays, name: str) -> None:
    before = both.direct_count

    responses = both.send(PUSHES[name])

    count = PUSHES[name].count(b"POST ")
    assert responses.count(b"HTTP/1.1 ") >= count
    assert both.direct_count == before + count


@pytest.mark.parametrize("name", OTHERS)
def test_unusual_request_is_answered_over_asgi(both: BothWays, name: str) -> None:
    before = both.direct_count

    assert both.send(OTHERS[name]).startswith(b"HTTP/1.1 ")

    assert both.direct_count == before


def test_push_whose_body_comes_later_is_answered_over_asgi(both: BothWays) -> None:
    before = both.direct_count

    assert both.send(post()[:-1], post()[-1:]).startswith(b"HTTP/1.1 201 ")

    assert both.direct_count == before


@given(
    st.lists(st.sampled_from(list(REQUESTS)), max_size=12),
    st.sets(st.integers(0, 2500), max_size=6),
)
@example(["minimal"] * 70, set())
@example(["page", "minimal", "garbage"], set())
@example(["minimal", "list", "minimal", "close", "minimal"], set())
@settings(max_examples=examples(60))
def test_pipelined_requests_are_answered_the_same_both_ways(
    both: BothWays, names: list[str], places: set[int]
) -> None:
    content = b"".join(REQUESTS[name] for name in names)
    ends = [0, *sorted(place for place in places if place < len(content)), len(content)]

    both.send(*(content[start:end] for start, end in pairwise(ends)))


@given(
    st.lists(st.sampled_from(list(PUSHES)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 800), st.integers(0, 3), st.binary(max_size=3)), max_size=4),
)
@settings(max_examples=examples(100))
def test_damaged_requests_are_answered_the_same_both_ways(
    both: BothWays, names: list[str], changes: list[tuple[int, int, bytes]]
) -> None:
    content = bytearray(b"".join(PUSHES[name] for name in names))
    for place, length, replacement in changes:
        content[place : place + length] = replacement

    both.send(bytes(content))


@pytest.mark.parametrize("path", [b"/v1/tasks", b"/"])
@pytest.mark.parametrize(
    "lines",
    [
        (),
        (TOKEN,),
        (b"Authorization: Bearer reads",),
        (b"Authorization: Bearer \xff",),
        (b"Authorization: Basic Ondyb25n",),
        (TOKEN, b"Origin: http://evil.example"),
        (TOKEN, b"Sec-Fetch-Site: same-site"),
    ],
)
def test_checks_apply_both_ways(guarded: BothWays, lines: tuple[bytes, ...], path: bytes) -> None:
    before = guarded.direct_count

    guarded.send(post(*lines, path=path))

    assert guarded.direct_count == before + 1


@given(tasks.map(json.dumps).map(str.encode) | st.binary(max_size=20))
@settings(max_examples=examples(100))
def test_random_push_is_answered_the_same_both_ways(both: BothWays, body: bytes) -> None:
    both.send(post(body=body))


@given(originals.map(json.dumps).map(str.encode) | st.binary(max_size=30))
@settings(max_examples=examples(100))
def test_random_push_of_the_original_is_answered_the_same_both_ways(
    both: BothWays, body: bytes
) -> None:
    both.send(post(path=b"/", body=body))


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("path", ["/v1/tasks", "/"])
def test_described_push_is_answered_the_same_both_ways(
    both: BothWays, path: str, mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_dict(both.description())
    cases = schema[path]["POST"].as_strategy(generation_mode=mode)

    @given(cases)
    @settings(max_examples=examples(25), suppress_health_check=list(HealthCheck))
    def answer(case: schemathesis.Case[Any]) -> None:
        asked = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
        body = asked.body or b""
        body = body.encode() if isinstance(body, str) else body
        lines = (
            f"{name}: {value}".encode("latin-1")
            for name, value in asked.headers.items()
            if name != "Content-Length"
        )
        both.send(post(*lines, path=asked.path_url.encode(), body=body))

    answer()
