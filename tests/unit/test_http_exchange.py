"""A request, and its response by an ASGI application."""

from __future__ import annotations

import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from poussetaches.server.client_transport import LARGE
from tests.fakes import let_run
from tests.http_wire import Server, ask, get


def sending(*messages: dict[str, object]) -> ASGIApp:
    """Return an application that sends these messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


START: dict[str, object] = {"type": "http.response.start", "status": 200, "headers": []}
BODY: dict[str, object] = {"type": "http.response.body", "body": b"part", "more_body": True}
LAST: dict[str, object] = {"type": "http.response.body", "body": b"end"}
LENGTH = [(b"content-length", b"5")]


@pytest.mark.parametrize(
    ("app", "sent", "end"),
    [
        pytest.param(sending(START, LAST), b"3\r\nend\r\n0\r\n\r\n", "", id="chunked"),
        pytest.param(
            sending(START, BODY, LAST), b"4\r\npart\r\n3\r\nend\r\n0\r\n\r\n", "", id="two"
        ),
        pytest.param(sending(START, BODY), b"4\r\npart\r\n", "closed", id="unfinished"),
        pytest.param(
            sending({**START, "headers": LENGTH}, LAST), b"\r\n\r\n", "closed", id="too short"
        ),
        pytest.param(
            sending({**START, "headers": LENGTH}, BODY, LAST), b"part", "closed", id="too long"
        ),
        pytest.param(
            sending({**START, "headers": [(b"connection", b"close")]}, LAST),
            b"connection: close\r\n\r\n3\r\nend\r\n0\r\n\r\n",
            "closed",
            id="last",
        ),
        pytest.param(sending({**START, "status": 204}, LAST), b"No Content\r\n\r\n", "", id="204"),
        pytest.param(sending(START, START), b"chunked\r\n\r\n", "closed", id="two starts"),
    ],
)
async def test_response_is_framed(app: ASGIApp, sent: bytes, end: str) -> None:
    wire = Server(app).connect()

    ask(wire, get())
    await let_run()

    assert wire.sent.endswith(sent)
    assert wire.end == end


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(sending(), id="no response"),
        pytest.param(sending(LAST), id="no start"),
        pytest.param(sending({**START, "headers": [(b"a", b"b\r\nc: d")]}), id="line end"),
        pytest.param(sending({"type": "http.response.trailers"}), id="unknown message"),
    ],
)
async def test_application_that_breaks_its_protocol_is_logged(
    app: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    wire = Server(app).connect()

    ask(wire, get())
    await let_run()

    assert (wire.statuses, wire.end) == ([500], "closed")
    assert b"internal error; see the server's log" in wire.sent
    assert "request failed" in caplog.text


async def test_response_without_a_length_ends_with_the_connection_in_http_1_0() -> None:
    wire = Server(sending(START, BODY, LAST)).connect()

    ask(wire, get(version="1.0"))
    await let_run()

    assert wire.sent.endswith(b"200 OK\r\nconnection: close\r\n\r\npartend")
    assert wire.end == "closed"


async def test_unfinished_response_without_a_length_is_aborted_in_http_1_0() -> None:
    wire = Server(sending(START, BODY)).connect()

    ask(wire, get(version="1.0"))
    await let_run()

    assert wire.end == "aborted"


async def test_response_to_head_has_no_body() -> None:
    wire = Server(sending({**START, "headers": LENGTH}, LAST)).connect()

    ask(wire, get().replace(b"GET", b"HEAD"))
    await let_run()

    assert wire.sent == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


async def test_application_sees_request_and_addresses() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await Response()(scope, receive, send)

    ask(Server(app).connect(), get("/a%20b?c=%20d", b"X-A:  b "))
    await let_run()

    [scope] = seen
    assert scope["type"] == "http"
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("GET", "/a b", b"/a%20b")
    assert (scope["query_string"], scope["http_version"]) == (b"c=%20d", "1.1")
    assert scope["headers"] == [(b"host", b"localhost"), (b"x-a", b"b")]
    assert (scope["client"], scope["server"]) == (("10.0.0.1", 5000), ("10.0.0.2", 80))


async def test_application_learns_that_the_client_left() -> None:
    received: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.extend([(await receive())["type"], (await receive())["type"]])
        await Response()(scope, receive, send)

    wire = Server(app).connect()
    ask(wire, get())
    await let_run()
    wire.close()
    await let_run()

    assert received == ["http.request", "http.disconnect"]
    assert wire.sent == b""


async def test_long_response_waits_for_its_reader() -> None:
    made: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(3):
            made.append(number)
            await send({"type": "http.response.body", "body": b"a" * LARGE, "more_body": True})

    wire = Server(app).connect()
    wire.protocol.pause_writing()
    ask(wire, get())
    await let_run()
    before = list(made)
    wire.protocol.resume_writing()
    await let_run()

    assert (before, made) == ([], [0, 1, 2])
