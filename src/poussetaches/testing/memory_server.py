"""The server of a test: its loop runs in a thread, its deliveries in the test's thread.

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

from poussetaches.client.call import Call
from poussetaches.client.delivery_auth import IncomingRequest, Reply
from poussetaches.client.errors import ClientError, NoAnswer
from poussetaches.client.server_answer import Answer
from poussetaches.client.transport import AsyncStream, Stream
from poussetaches.core.cause import Cause
from poussetaches.core.moment import Moment
from poussetaches.core.target import parse_target, without_credentials
from poussetaches.core.task import Outcome
from poussetaches.engine import answer
from poussetaches.engine.request import Request
from poussetaches.engine.secret_mask import SecretMask
from poussetaches.server.test_mode_parts import TestModeServer
from poussetaches.settings import load_settings

BASE_URL = "http://localhost"  # the base URL of the application's test client
NO_EVENTS = "testing does not support events; read the tasks instead"
NO_ANSWER = "the test's server did not respond"
BROKEN_OFF = "the test was interrupted"
SEED = 1  # of random numbers, so that retries have the same times in every run

_NO_SECRETS = SecretMask()  # a test's secrets are its own

T = TypeVar("T")
Deliver = Callable[[IncomingRequest], Reply]


class Delivery(NamedTuple):
    """An attempt that waits for the test's thread."""

    request: Request
    outcome: asyncio.Future[Outcome]


class InProcessServer:
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
            sender=_QueueSender(self._waiting),
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
        """Deliver due tasks, and the tasks that they push; return the number of attempts."""
        return self._drive(self._server.run_until_idle())

    def advance(self, seconds: float) -> int:
        """Advance the clock, and deliver the tasks that are due; return the number of attempts."""
        return self._drive(self._server.advance(seconds))

    def call(self, call: Call) -> Future[Answer]:
        """Send a request to the API.

        Raises:
            ClientError: the test's block has ended, and the server with it.
        """
        self._check_open()
        return asyncio.run_coroutine_threadsafe(_answer(self._server.app, call), self._loop)

    def _check_open(self) -> None:
        if self._loop.is_closed():
            raise ClientError("the test's server was stopped at the end of its `with` block")

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop, and deliver until it is done."""
        if self._is_driven or self._loop.is_closed():
            work.close()
            self._check_open()
            raise RuntimeError(
                "a handler cannot run tasks; call run_until_idle() or advance() from the test"
            )
        self._is_driven = True
        try:
            done = asyncio.run_coroutine_threadsafe(work, self._loop)
            done.add_done_callback(lambda _: self._waiting.put(None))
            self._deliver_all()
            return done.result()
        finally:
            self._is_driven = False

    def _deliver_all(self) -> None:
        """Deliver all; after an exception that interrupts the test, fail the rest."""
        broken: BaseException | None = None
        while (delivery := self._waiting.get()) is not None:
            outcome = Outcome(error=BROKEN_OFF, cause=Cause.CONNECTION_LOST)
            if broken is None:
                try:
                    outcome = self._outcome_of(delivery.request)
                except BaseException as exc:  # of any type, raised below
                    broken = exc
            self._loop.call_soon_threadsafe(_set_outcome, delivery.outcome, outcome)
        if broken is not None:
            raise broken

    def _outcome_of(self, request: Request) -> Outcome:
        target = parse_target(request.url)
        address = request.url.removeprefix(BASE_URL)
        if target.host != "localhost" or address == request.url:
            url = without_credentials(request.url)
            error = f"tests send no requests outside; {url} was not called"
            return Outcome(error=error, cause=Cause.TARGET_NOT_ALLOWED)
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


class InProcessTransport:
    """Sends a client's requests to a test's server."""

    def __init__(self, server: InProcessServer) -> None:
        self._server = server

    def send(self, call: Call, *, timeout: float) -> Answer:
        """Send a request.

        Raises:
            NoAnswer: there was no answer within ``timeout`` seconds.
        """
        try:
            return self._server.call(call).result(timeout)
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


class AsyncInProcessTransport:
    """Sends an asynchronous client's requests to a test's server."""

    def __init__(self, server: InProcessServer) -> None:
        self._server = server

    async def send(self, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109  # as the seam
        """Send a request.

        Raises:
            NoAnswer: there was no answer within ``timeout`` seconds.
        """
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._server.call(call)), timeout)
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


class _QueueSender:
    """A sender whose attempts are made in another thread."""

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


def _set_outcome(waiting: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not waiting.done():
        waiting.set_result(outcome)


async def _answer(app: ASGIApp, call: Call) -> Answer:
    """Send a request to an ASGI application."""
    given: list[Message] = [{"type": "http.request", "body": call.body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if given:
            return given.pop()
        # The client stays connected, and sends nothing more.
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
