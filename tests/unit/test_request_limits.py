"""The limits on concurrent requests."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from poussetaches.api.app import build_app
from poussetaches.api.endpoint import Handler
from poussetaches.api.problems import Problem
from poussetaches.api.request_limits import MAX_ACTIVE, RequestLimits
from poussetaches.api.router import Resource
from tests.fakes import let_run
from tests.integration.asgi import endpoint


class Slow(Response):
    """A response that starts at ``begins`` and is completed at ``ends``."""

    def __init__(self) -> None:
        super().__init__()
        self.begins = asyncio.Event()
        self.ends = asyncio.Event()

    async def respond(self, request: Request) -> Response:
        await self.begins.wait()
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.ends.wait()


class Clients:
    """Clients, with the statuses of their responses, 0 while there is none."""

    def __init__(self, request_limits: RequestLimits, respond: Handler) -> None:
        endpoints = [
            endpoint("GET", "/v1/tasks", handler=respond),
            endpoint("POST", "/v1/tasks", handler=respond, is_push=True),
            endpoint("GET", "/healthz", handler=respond, is_open=True),
        ]
        self._app = build_app(endpoints, tokens=None, request_limits=request_limits)
        self.statuses: list[int] = []
        self.asking: list[asyncio.Future[None]] = []

    async def ask(self, path: str = "/v1/tasks", *, method: str = "GET", count: int = 1) -> None:
        for _ in range(count):
            place = len(self.statuses)
            self.statuses.append(0)

            async def send(message: Message, place: int = place) -> None:
                if message["type"] == "http.response.start":
                    self.statuses[place] = message["status"]

            async def receive() -> Message:
                raise AssertionError("nobody reads the body")

            scope = {"type": "http", "method": method, "path": path, "headers": []}
            self.asking.append(asyncio.ensure_future(self._app(scope, receive, send)))
        await let_run()


async def test_more_requests_than_a_quarter_of_the_connections_are_refused() -> None:
    slow = Slow()
    clients = Clients(RequestLimits(16), slow.respond)

    await clients.ask(count=5)
    await clients.ask("/healthz")
    await clients.ask(method="POST")
    slow.begins.set()
    await let_run()
    await clients.ask()

    assert clients.statuses == [200, 200, 200, 200, 503, 200, 200, 200]
    slow.ends.set()
    await asyncio.gather(*clients.asking)


async def test_request_whose_response_has_begun_is_not_active() -> None:
    slow = Slow()
    clients = Clients(RequestLimits(16), slow.respond)
    slow.begins.set()

    await clients.ask(count=20)

    assert clients.statuses == [200] * 20
    slow.ends.set()
    await asyncio.gather(*clients.asking)


async def test_failed_request_is_no_longer_active() -> None:
    async def fail(request: Request) -> Response:
        raise OSError("it failed")

    request_limits = RequestLimits(16)
    clients = Clients(request_limits, fail)

    await clients.ask(count=20)
    await asyncio.gather(*clients.asking)

    assert clients.statuses[:4] == [500] * 4
    assert request_limits.active_count == 0


async def test_parked_request_is_not_active() -> None:
    request_limits = RequestLimits(16)
    parked: list[Scope] = []
    ends = asyncio.Event()

    async def park(request: Request) -> Response:
        with request_limits.parked(request.scope):
            parked.append(request.scope)
            await ends.wait()
        return Response()

    clients = Clients(request_limits, park)
    for _ in range(8):
        await clients.ask()

    assert (len(parked), request_limits.active_count) == (8, 0)
    ends.set()
    await asyncio.gather(*clients.asking)


def test_no_more_requests_are_parked_than_half_of_the_connections() -> None:
    request_limits = RequestLimits(16)
    with ExitStack() as parked:
        for _ in range(8):
            parked.enter_context(request_limits.parked({}))
        with pytest.raises(Problem) as caught, request_limits.parked({}):
            pass

    assert (caught.value.status, caught.value.code) == (503, "busy")
    assert caught.value.headers == (("Retry-After", "1"),)
    with request_limits.parked({}):
        pass  # there is room again


def test_number_of_active_requests_does_not_grow_with_the_connections() -> None:
    request_limits = RequestLimits(1_000_000)
    slots = [request_limits.enter() for _ in range(MAX_ACTIVE)]

    problem = request_limits.problem(Resource())

    assert problem is not None
    assert problem.code == "busy"
    for slot in slots:
        slot.leave()
    assert request_limits.problem(Resource()) is None
