"""The server of a test: its loop in a thread of its own, its deliveries in the test's thread.

So a handler runs where the test does, with its database connection and its transaction, and may
push tasks itself: the server is free to take them meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

from poussetaches.client.admission import IncomingRequest, Reply
from poussetaches.client.errors import ClientError, NoAnswer
from poussetaches.client.transport import AsyncStream, Stream
from poussetaches.client.wire import Answer, Call
from poussetaches.core.moment import Moment
from poussetaches.core.target import parse_target, without_credentials
from poussetaches.core.task import Outcome
from poussetaches.engine import answer
from poussetaches.engine.request import Request
from poussetaches.engine.secret_mask import SecretMask
from poussetaches.server.test_mode import TestModeServer
from poussetaches.settings import load_settings

BASE_URL = "http://localhost"  # where paths lead: the application's test client
NO_EVENTS = "events are not offered in tests; ask for the tasks"
NO_ANSWER = "the server of this test does not answer"
BROKEN_OFF = "the test was interrupted"
SEED = 1  # of all chance, so that retries come at the same times in every run

_NO_SECRETS = SecretMask()  # a test's secrets are its own

T = TypeVar("T")
Deliver = Callable[[IncomingRequest], Reply]


class Delivery(NamedTuple):
    """An attempt that waits for the test's thread."""

    request: Request
    outcome: asyncio.Future[Outcome]


class World:
    """A server in memory and in virtual time."""

    def __init__(self, *, deliver: Deliver, auth_key: str, signing_secret: str) -> None:
        environ = {
            "POUSSETACHES_AUTH_KEY": auth_key,
            "POUSSETACHES_SIGNING_SECRET": signing_secret,
            "POUSSETACHES_BASE_URL": BASE_URL,
        }
        self._deliver = deliver
        self._waiting: SimpleQueue[Delivery | None] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="poussetaches-test")
        self._server = TestModeServer(
            load_settings({"test_mode": True}, environ, None),
            sender=_ByHand(self._waiting),
            seed=SEED,
        )
        self._is_driven = False

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._server.open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def now(self) -> Moment:
        """Return the virtual time."""
        return self._server.now()

    def run_until_idle(self) -> int:
        """Make what is due now and all that comes of it; return how many attempts that took."""
        return self._drive(self._server.run_until_idle())

    def advance(self, seconds: float) -> int:
        """Move the clock, and deliver what becomes due; return how many attempts that took."""
        return self._drive(self._server.advance(seconds))

    def call(self, call: Call) -> Future[Answer]:
        """Make a call of the API.

        Raises:
            ClientError: the test's block has ended, and the server with it.
        """
        if self._loop.is_closed():
            raise ClientError("the server of this test has ended with its `with` block")
        return asyncio.run_coroutine_threadsafe(_answer(self._server.app, call), self._loop)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work in the server's loop, and make its deliveries until it is done."""
        if self._is_driven:
            work.close()
            raise RuntimeError("a handler cannot have tasks run: they run one after another")
        self._is_driven = True
        try:
            done = asyncio.run_coroutine_threadsafe(work, self._loop)
            done.add_done_callback(lambda _: self._waiting.put(None))
            self._deliver_all()
            return done.result()
        finally:
            self._is_driven = False

    def _deliver_all(self) -> None:
        """Make all deliveries; after one that interrupts the test, fail the others."""
        broken: BaseException | None = None
        while (delivery := self._waiting.get()) is not None:
            outcome = Outcome(error=BROKEN_OFF)
            if broken is None:
                try:
                    outcome = self._made(delivery.request)
                except BaseException as exc:  # raised below, whatever it is
                    broken = exc
            self._loop.call_soon_threadsafe(_settle, delivery.outcome, outcome)
        if broken is not None:
            raise broken

    def _made(self, request: Request) -> Outcome:
        target = parse_target(request.url)
        address = request.url.removeprefix(BASE_URL)
        if target.host != "localhost" or address == request.url:
            url = without_credentials(request.url)
            return Outcome(error=f"tests call nothing outside, so not {url} either")
        path, _, query = address.partition("?")
        reply = self._deliver(
            IncomingRequest(
                request.method, unquote(path), request.headers, request.body, query=query
            )
        )
        headers = {name.lower(): value for name, value in reply.headers.items()}
        given = answer.Answer(
            int(reply.status), lambda name: headers.get(name.lower(), ""), reply.body
        )
        return answer.outcome_of(given, url=request.url, now=self.now(), secret_mask=_NO_SECRETS)


class InProcess:
    """Carries a client's calls to a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def send(self, call: Call, *, timeout: float) -> Answer:
        """Make a call.

        Raises:
            NoAnswer: none came within ``timeout`` seconds.
        """
        try:
            return self._world.call(call).result(timeout)
        except TimeoutError as exc:
            raise NoAnswer(NO_ANSWER) from exc

    def stream(self, call: Call, *, silence: float) -> AbstractContextManager[Stream]:
        """Refuse.

        Raises:
            ClientError: always.
        """
        raise ClientError(NO_EVENTS)

    def close(self) -> None:
        """Do nothing."""


class AsyncInProcess:
    """Carries an asynchronous client's calls to a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def send(self, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109  # as the seam
        """Make a call.

        Raises:
            NoAnswer: none came within ``timeout`` seconds.
        """
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._world.call(call)), timeout)
        except TimeoutError as exc:
            raise NoAnswer(NO_ANSWER) from exc

    def stream(self, call: Call, *, silence: float) -> AbstractAsyncContextManager[AsyncStream]:
        """Refuse.

        Raises:
            ClientError: always.
        """
        raise ClientError(NO_EVENTS)

    async def close(self) -> None:
        """Do nothing."""


class _ByHand:
    """A sender whose attempts are made by another thread."""

    def __init__(self, waiting: SimpleQueue[Delivery | None]) -> None:
        self._waiting = waiting

    async def send(self, request: Request) -> Outcome:
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.put(Delivery(request, outcome))
        return await outcome

    async def probe(self, origin: str) -> Outcome | None:
        return None

    async def close(self) -> None:
        """Do nothing."""


def _settle(waiting: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not waiting.done():
        waiting.set_result(outcome)


async def _answer(app: ASGIApp, call: Call) -> Answer:
    """Make a call of an ASGI application."""
    given: list[Message] = [{"type": "http.request", "body": call.body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if given:
            return given.pop()
        # The client stays connected, and has nothing more to say.
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def send(message: Message) -> None:
        sent.append(message)

    path, _, query = call.target.partition("?")
    headers = [("host", "localhost"), ("content-type", call.content_type), *call.headers]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": None,
        "server": None,
    }
    await app(scope, receive, send)
    raw = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], raw, body)
