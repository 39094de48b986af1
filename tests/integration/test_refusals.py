"""Every layer that can refuse a request, in the dialect of the request's path."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from poussetaches.api.app import build_app
from poussetaches.api.auth import Tokens
from poussetaches.api.dialect import V1, Dialect, Dialects
from poussetaches.api.original_routes import ORIGINAL
from poussetaches.api.problems import Problem
from poussetaches.api.request_body import decode, read_body
from poussetaches.api.request_limits import RequestLimits
from poussetaches.core.errors import OutcomeUnknown, StoreFull, StoreUnavailable, TaskNotFound
from poussetaches.server.connection_limits import Patience
from poussetaches.server.http_server import HttpServer
from tests.integration.asgi import endpoint

MOST = 40  # bytes of a body
LIMITS = 4  # connections; requests at once are a quarter of them

RETRY = {"retry-after": "1"}
ALLOW = {"allow": "GET, HEAD, POST"}
CHALLENGES = {"www-authenticate": 'Bearer, Basic realm="poussetaches", charset="UTF-8"'}
CLOSED = {"connection": "close"}
PAGE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "frame-ancestors 'none'",
}


def in_plain_text(problem: Problem) -> Response:
    """Return a refusal in the form of a third dialect."""
    response = PlainTextResponse(f"{problem.code}: {problem.detail}", int(problem.status))
    for name, value in problem.headers:
        response.headers.append(name, value)
    return response


THIRD = Dialect("third", covers=lambda path: path.startswith("/v2/"), refusal=in_plain_text)
PATHS = {V1: "/v1/tasks", ORIGINAL: "/", THIRD: "/v2/tasks"}
DIALECTS = pytest.mark.parametrize("dialect", PATHS, ids=lambda dialect: dialect.name)


class Answered(NamedTuple):
    """An answer as it was received."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def check(self, dialect: Dialect, status: int, code: str) -> None:
        """Check status and form of a refusal."""
        assert self.status == status
        if dialect is THIRD:
            assert self.headers["content-type"].startswith("text/plain")
            assert self.body.startswith(f"{code}: ".encode())
            return
        document = json.loads(self.body)
        assert self.headers["content-type"] == "application/problem+json"
        assert document.pop("detail")
        document.pop("errors", None)
        assert document == {
            "type": f"urn:poussetaches:problem:{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
        }


class Case(NamedTuple):
    """A request, and its expected refusal."""

    sent: bytes
    status: int
    code: str
    headers: Mapping[str, str] = {}


class Place:
    """A server with an endpoint in each dialect, and its limits."""

    def __init__(self, patience: Patience, limits: RequestLimits, path: Path) -> None:
        self.patience = patience
        self.limits = limits
        self.reading = asyncio.Event()  # an endpoint has begun
        self.ended = asyncio.Event()  # the test has
        self._path = path

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect; disconnect at the end."""
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()

    async def ask(self, sent: bytes, *, is_whole: bool = True) -> Answered:
        """Send a request and return the answer; if it is not whole, patience ends."""
        async with self.connected() as (reader, writer):
            writer.write(sent)
            if not is_whole:
                await self.reading.wait()
                self.patience.check()
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers: dict[str, str] = {}
            for name, _, value in (line.partition(": ") for line in lines):
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            body = await reader.readexactly(int(headers["content-length"]))
            return Answered(int(first.split()[1]), headers, body)


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """The body that the endpoints accept."""

    fail: str = ""


ERRORS: Mapping[str, Exception] = {
    "missing": TaskNotFound(),
    "store": StoreUnavailable("the disk is gone"),
    "full": StoreFull(),
    "unknown": OutcomeUnknown(),
    "bug": ValueError("the key is hunter2"),
}


@asynccontextmanager
async def serving(path: Path, tokens: Tokens | None) -> AsyncIterator[Place]:
    """Serve endpoints that read a body and fail as it asks, at a Unix socket."""
    limits, patience = RequestLimits(LIMITS), Patience(most=LIMITS, longest=1)
    dialects = Dialects(ORIGINAL, THIRD)
    place = Place(patience, limits, path)

    async def take(request: Request) -> Response:
        place.reading.set()
        asked = decode(msgspec.json.Decoder(Asked), await read_body(request, limit=MOST))
        raise ERRORS[asked.fail]

    async def wait(request: Request) -> Response:
        place.reading.set()
        await place.ended.wait()
        return Response()

    rows = [
        endpoint(method, of_dialect, handler=take, is_push=of_dialect == "/" and method == "POST")
        for of_dialect in PATHS.values()
        for method in ("GET", "POST")
    ]
    rows.append(endpoint("POST", "/slow", handler=wait, is_push=True))
    app = build_app(rows, dialects=dialects, tokens=tokens, request_limits=limits)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = HttpServer(app, listener, patience=patience, dialects=dialects)
        await server.start()
        yield place
        place.ended.set()
        await server.stop()


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Paths of sockets are short: a test's own folder may be too deep.
    return tmp_path_factory.mktemp("s") / "p"


@pytest.fixture
async def place(path: Path) -> AsyncIterator[Place]:
    async with serving(path, None) as place:
        yield place


@pytest.fixture
async def guarded(path: Path) -> AsyncIterator[Place]:
    async with serving(path, Tokens("writes", "reads")) as place:
        yield place


def post(dialect: Dialect, body: bytes = b"{}", *lines: bytes, path: str = "") -> bytes:
    """Return a request that is refused for nothing but its lines and its body."""
    first = f"POST {path or PATHS[dialect]} HTTP/1.1".encode()
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([first, b"Host: localhost", length, *lines, b"", body])


# Layer by layer, from the outside in.

UNREADABLE = {
    "no Host": Case(b"POST %b HTTP/1.1\r\n\r\n", 400, "refused"),
    "head too large": Case(
        b"POST %b HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 66_000 + b"\r\n\r\n",
        *(431, "head-too-large"),
    ),
    "URL too long": Case(
        b"POST %b?" + b"a" * 66_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431, "head-too-large"
    ),
    "compressed": Case(
        b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Encoding: br\r\n\r\n",
        *(415, "unsupported-content-encoding", {"accept-encoding": "identity"}),
    ),
    "unknown coding": Case(
        b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        *(501, "unsupported-transfer-encoding"),
    ),
    "unknown version": Case(b"POST %b HTTP/2.0\r\nHost: a\r\n\r\n", 505, "unsupported-version"),
}


@DIALECTS
@pytest.mark.parametrize("case", UNREADABLE.values(), ids=UNREADABLE)
async def test_connection_refuses_what_is_not_http(
    place: Place, dialect: Dialect, case: Case
) -> None:
    answered = await place.ask(case.sent % PATHS[dialect].encode())

    answered.check(dialect, case.status, case.code)
    assert answered.headers.items() >= {**CLOSED, **case.headers}.items()


@DIALECTS
async def test_connection_refuses_a_body_that_does_not_come(
    place: Place, dialect: Dialect
) -> None:
    unfinished = post(dialect, b"{}")[:-1]

    answered = await place.ask(unfinished, is_whole=False)

    answered.check(dialect, 408, "too-slow")
    assert answered.headers.items() >= CLOSED.items()


async def test_connection_too_many_is_refused_before_its_path_is_known(
    place: Place,
) -> None:
    async with AsyncExitStack() as others:
        for _ in range(LIMITS):
            _, writer = await others.enter_async_context(place.connected())
            place.reading.clear()
            writer.write(post(V1, path="/slow"))
            await place.reading.wait()

        answered = await place.ask(b"")

        answered.check(V1, 503, "busy")
        assert answered.headers.items() >= {**CLOSED, **RETRY}.items()


@pytest.mark.parametrize("dialect", [V1, THIRD], ids=["v1", "third"])
async def test_limit_on_concurrent_requests_refuses(place: Place, dialect: Dialect) -> None:
    slot = place.limits.enter()

    answered = await place.ask(post(dialect))

    answered.check(dialect, 503, "busy")
    assert answered.headers.items() >= {**RETRY, **PAGE}.items()
    slot.leave()


@DIALECTS
async def test_unknown_host_is_refused(place: Place, dialect: Dialect) -> None:
    sent = post(dialect).replace(b"localhost", b"evil.example")

    answered = await place.ask(sent)

    answered.check(dialect, 421, "unknown-host")


@DIALECTS
@pytest.mark.parametrize("line", [b"Origin: http://evil.example", b"Sec-Fetch-Site: cross-site"])
async def test_browser_guard_refuses(place: Place, dialect: Dialect, line: bytes) -> None:
    answered = await place.ask(post(dialect, b"{}", line))

    answered.check(dialect, 403, "cross-site")


@DIALECTS
@pytest.mark.parametrize("lines", [(), (b"Authorization: Bearer wrong",)], ids=["no", "wrong"])
async def test_missing_token_is_refused(
    guarded: Place, dialect: Dialect, lines: tuple[bytes, ...]
) -> None:
    answered = await guarded.ask(post(dialect, b"{}", *lines))

    answered.check(dialect, 401, "unauthorized")
    assert answered.headers.items() >= CHALLENGES.items()


@DIALECTS
async def test_read_only_token_is_refused(guarded: Place, dialect: Dialect) -> None:
    answered = await guarded.ask(post(dialect, b"{}", b"Authorization: Bearer reads"))

    answered.check(dialect, 403, "read-only-token")


@pytest.mark.parametrize(
    ("dialect", "missing"),
    [(V1, "/v1/nothing"), (V1, "/nothing"), (THIRD, "/v2/nothing")],
    ids=["v1", "none", "third"],
)
async def test_unknown_path_is_refused(place: Place, dialect: Dialect, missing: str) -> None:
    answered = await place.ask(post(dialect, path=missing))

    answered.check(dialect, 404, "not-found")
    assert answered.headers.items() >= PAGE.items()


@DIALECTS
async def test_unknown_method_is_refused(place: Place, dialect: Dialect) -> None:
    answered = await place.ask(post(dialect).replace(b"POST", b"DELETE", 1))

    answered.check(dialect, 405, "method-not-allowed")
    assert answered.headers.items() >= {**ALLOW, **PAGE}.items()


BODIES = {
    "too large": Case(b'{"fail": "%b"}' % (b"a" * MOST), 413, "too-large"),
    "not JSON": Case(b"{", 400, "bad-json"),
    "unknown field": Case(b'{"failed": ""}', 422, "invalid-task"),
    "no such task": Case(b'{"fail": "missing"}', 404, "task-not-found"),
    "no store": Case(b'{"fail": "store"}', 503, "store-unavailable", RETRY),
    "full store": Case(b'{"fail": "full"}', 507, "store-full", RETRY),
    "bug": Case(b'{"fail": "bug"}', 500, "unexpected"),
}


@DIALECTS
@pytest.mark.parametrize("case", BODIES.values(), ids=BODIES)
async def test_endpoint_refuses(place: Place, dialect: Dialect, case: Case) -> None:
    answered = await place.ask(post(dialect, case.sent))

    answered.check(dialect, case.status, case.code)
    assert answered.headers.items() >= case.headers.items()
    assert "date" in answered.headers
    assert b"hunter2" not in answered.body


@DIALECTS
async def test_outcome_unknown_does_not_ask_to_be_repeated(place: Place, dialect: Dialect) -> None:
    answered = await place.ask(post(dialect, b'{"fail": "unknown"}'))

    answered.check(dialect, 503, "outcome-unknown")
    assert "retry-after" not in answered.headers
