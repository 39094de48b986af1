"""One connection: the order of responses, the number of writes, and its ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.app import App, build_app
from poussetaches.api.auth import Tokens
from poussetaches.api.endpoint import RawResponse
from poussetaches.api.push_handler import Headers, PendingPush, PushHandler
from poussetaches.api.request_body import read_body
from poussetaches.api.request_limits import RequestLimits
from poussetaches.core.errors import StoreUnavailable
from poussetaches.server.http_exchange import HIGH_WATER
from poussetaches.server.http_protocol import LONGEST_DIRECT, MOST_IN_A_ROW
from tests.fakes import let_run
from tests.http_wire import PATH, Server, Wire, ask, get, post
from tests.integration.asgi import endpoint
from tests.push_desk import Desk


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def hello(request: Request) -> Response:
    return Response(b"hello")


async def echo(request: Request) -> Response:
    return Response(await read_body(request, limit=1 << 20))


def app_of(desk: Desk, tokens: Tokens | None = None) -> App:
    handler = PushHandler(desk.begin, max_request=1 << 20)
    rows = [
        endpoint("POST", PATH, handler=handler, is_push=True),
        endpoint("GET", "/hello", handler=hello),
        endpoint("POST", "/echo", handler=echo),
    ]
    return build_app(rows, tokens=tokens, request_limits=RequestLimits(100))


@pytest.fixture
def server(desk: Desk) -> Server:
    return Server(app_of(desk))


@pytest.fixture
async def wire(server: Server) -> Wire:
    return server.connect()


def positions(text: bytes, parts: Iterable[bytes]) -> list[int]:
    return [text.index(part) for part in parts]


async def test_response_to_a_push_is_one_write(wire: Wire, desk: Desk) -> None:
    ask(wire, post(b"a"))
    before = list(wire.writes)
    desk.store(0)
    await let_run(1)

    assert before == []
    assert len(wire.writes) == 1
    assert wire.sent.startswith(b"HTTP/1.1 201 Created\r\ncontent-length: 1\r\ndate: ")
    assert wire.sent.endswith(b"GMT\r\n\r\na")


async def test_response_of_the_application_is_one_write(wire: Wire) -> None:
    ask(wire, get())
    await let_run()

    assert len(wire.writes) == 1
    assert wire.sent.endswith(b"\r\n\r\nhello")


async def test_pipelined_pushes_are_stored_together_and_answered_in_one_write(
    wire: Wire, desk: Desk
) -> None:
    ask(wire, post(b"one"), post(b"two"), post(b"three"))
    assert desk.bodies == [b"one", b"two", b"three"]

    desk.store(2, 0, 1)
    await let_run(2)

    assert len(wire.writes) == 1
    assert wire.statuses == [201] * 3
    assert sorted(places := positions(wire.sent, desk.bodies)) == places


async def test_response_waits_for_those_of_earlier_requests(wire: Wire, desk: Desk) -> None:
    ask(wire, post(b"one"), post(b"two"))
    desk.store(1)
    await let_run()
    assert wire.sent == b""

    desk.store(0)
    await let_run()

    assert wire.statuses == [201, 201]


async def test_request_begins_once_earlier_pushes_are_answered(wire: Wire, desk: Desk) -> None:
    ask(wire, post(b"one"), get(), post(b"two"))
    await let_run()
    assert (wire.sent, desk.bodies) == (b"", [b"one"])

    desk.store(0)
    await let_run()
    assert (wire.statuses, desk.bodies) == ([201, 200], [b"one", b"two"])

    desk.store(1)
    await let_run()
    assert wire.statuses == [201, 200, 201]


async def test_refused_pushes_in_one_piece_are_answered_in_one_write(
    desk: Desk,
) -> None:
    wire = Server(app_of(desk, Tokens("secret"))).connect()

    ask(wire, post(b"one"), post(b"two"))

    assert (wire.statuses, len(wire.writes)) == ([401, 401], 1)
    assert desk.bodies == []


async def test_error_of_the_store_is_answered(wire: Wire, desk: Desk) -> None:
    ask(wire, post(b"one"), post(b"two"))
    desk.waiting[0].set_exception(StoreUnavailable("the disk is gone"))
    desk.waiting[1].cancel()
    await let_run()

    assert wire.statuses == [503, 503]
    assert b"the disk is gone" in wire.sent


async def test_header_with_a_line_end_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    def begin(headers: Headers, body: bytes) -> PendingPush[None]:
        stored = asyncio.get_running_loop().create_future()
        stored.set_result(None)
        return PendingPush(stored, lambda _: RawResponse(b"", 201, (b"location", b"/a\r\nb: c")))

    app = build_app(
        [endpoint("POST", PATH, handler=PushHandler(begin, max_request=100))],
        tokens=None,
        request_limits=RequestLimits(100),
    )
    wire = Server(app).connect()

    ask(wire, post(b"one"))
    await let_run()

    assert (wire.sent, wire.end) == (b"", "aborted")
    assert "line end" in caplog.text


async def test_client_that_leaves_before_its_push_is_stored_is_ignored(
    wire: Wire, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    ask(wire, post(b"one"), post(b"two"))
    wire.close()
    await let_run(1)

    desk.store(0)
    desk.waiting[1].set_exception(StoreUnavailable())
    await let_run()

    assert (wire.sent, caplog.records) == (b"", [])


async def test_reading_pauses_while_requests_wait(wire: Wire, desk: Desk) -> None:
    ask(wire, post(b"one"))
    alone = wire.reads
    ask(wire, post(b"two"), post(b"three"))
    followed = wire.reads
    desk.store(0, 1)
    await let_run()

    assert (alone, followed, wire.reads) == (True, False, True)


async def test_too_many_pipelined_pushes_are_refused_after_the_others(
    wire: Wire, desk: Desk
) -> None:
    ask(wire, post(b"a") * (MOST_IN_A_ROW + 5))
    desk.store(*range(MOST_IN_A_ROW + 1))
    await let_run()

    assert wire.statuses == [201] * (MOST_IN_A_ROW + 1)
    assert wire.end == "closed"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_nothing_after_the_last_request_is_processed(
    wire: Wire, desk: Desk, version: str
) -> None:
    ask(wire, post(b"one", b"Connection: close", version=version), post(b"two"))
    desk.store(0)
    await let_run()
    ask(wire, post(b"three"))

    assert (wire.statuses, wire.end, desk.bodies) == ([201], "closed", [b"one"])
    assert b"\r\nconnection: close\r\n" in wire.sent


async def test_nothing_after_a_last_request_that_is_refused_is_processed(
    desk: Desk,
) -> None:
    wire = Server(app_of(desk, Tokens("secret"))).connect()

    refused = post(b"one", b"Connection: close")
    ask(wire, refused, post(b"two", b"Authorization: Bearer secret"))
    await let_run()

    assert (wire.statuses, wire.end, desk.bodies) == ([401], "closed", [])


async def test_long_push_goes_through_the_application(wire: Wire, desk: Desk) -> None:
    ask(wire, post(b"a" * LONGEST_DIRECT))
    begun_at_once = len(desk.bodies)
    desk.store(0)
    await let_run()
    ask(wire, post(b"a" * (LONGEST_DIRECT + 1)))
    begun_later = len(desk.bodies)
    await let_run()
    desk.store(1)
    await let_run()

    assert (begun_at_once, begun_later) == (1, 1)
    assert wire.statuses == [201, 201]


async def test_push_of_a_client_that_does_not_read_waits_in_the_application(
    wire: Wire, desk: Desk
) -> None:
    wire.protocol.pause_writing()
    ask(wire, post(b"one"))
    await let_run()
    desk.store(0)
    await let_run()
    unread = wire.sent

    wire.protocol.resume_writing()
    await let_run()

    assert (unread, wire.statuses) == (b"", [201])


async def test_body_that_the_application_does_not_read_pauses_reading(wire: Wire) -> None:
    ask(wire, post(b"a" * (HIGH_WATER + 2), path="/echo")[:-1])
    paused = wire.reads
    await let_run()
    ask(wire, b"a")
    await let_run()

    assert (paused, wire.reads, wire.statuses) == (False, True, [200])


async def test_client_is_asked_for_the_body_it_announces(wire: Wire) -> None:
    announced = post(b"body", b"Expect: 100-continue", path="/echo")
    ask(wire, announced[:-4])
    await let_run()
    asked = wire.sent
    ask(wire, announced[-4:])
    await let_run()

    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wire.statuses == [100, 200]


@pytest.mark.parametrize("checks", [1, 2])
async def test_idle_connection_is_closed_in_time(
    server: Server, wire: Wire, desk: Desk, checks: int
) -> None:
    ask(wire, post(b"one"))
    for _ in range(5):
        server.patience.check()
    desk.store(0)
    await let_run()

    for _ in range(checks):
        server.patience.check()

    assert wire.end == ("closed" if checks == 2 else "")


async def test_connections_end_after_their_responses(
    server: Server, wire: Wire, desk: Desk
) -> None:
    idle = server.connect()
    ask(wire, post(b"one"))
    ending = asyncio.create_task(server.registry.end(60))
    await let_run()
    assert (idle.end, wire.end, ending.done()) == ("closed", "", False)

    desk.store(0)
    await ending

    assert (wire.statuses, wire.end) == ([201], "closed")
    assert b"\r\nconnection: close\r\n" in wire.sent


async def test_connections_that_do_not_end_are_aborted(
    server: Server, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    ask(wire, post(b"body", path="/echo")[:-1])
    await let_run()

    await server.registry.end(0)

    assert wire.end == "aborted"
    assert "requests cut off" in caplog.text
