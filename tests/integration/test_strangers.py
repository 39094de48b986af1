"""Large bodies of unauthenticated clients do not increase a receiver's memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message

from poussetaches.client.delivery_auth import MAX_REFUSED_BODY, PIECE, IncomingRequest
from poussetaches.fastapi import Tasks as FastAPITasks
from poussetaches.flask import Tasks as FlaskTasks
from tests.application import RecordingPusher, signed
from tests.integration.strangers import LENGTH, Endless, little_memory

SECRET = "a secret of twenty-four bytes"
PATH = "/_poussetaches/app.send"
STRANGERS = 20

# Each makes the headers of a stranger.
HEADERS: dict[str, Callable[[], dict[str, str]]] = {
    "unsigned": dict,
    "made up": lambda: _signed("made up"),
    "recorded": lambda: _signed(SECRET, prefix="/third/party"),
}


def _signed(secret: str, prefix: str = "") -> dict[str, str]:
    request = IncomingRequest("POST", PATH)
    return dict(signed(request, secret, at=time.time(), prefix=prefix).headers)


def post_to_flask(app: Flask, headers: dict[str, str]) -> tuple[int, int]:
    """Send a stranger's request; return the status, and how much was read."""
    body = Endless()
    status: list[str] = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": PATH,
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(LENGTH),
        "wsgi.input": body,
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
    }

    def start_response(line: str, *_: object) -> Callable[[bytes], object]:
        status.append(line)
        return lambda _: None

    list(app.wsgi_app(environ, start_response))
    return int(status[0].split()[0]), body.count


async def post_to_asgi(app: ASGIApp, headers: dict[str, str]) -> tuple[int, int]:
    """Send a stranger's request; return the status, and how much was read."""
    body = Endless()
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(0)  # all strangers take turns
        return {"type": "http.request", "body": body.read(PIECE), "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    return sent[0]["status"], body.count


@pytest.mark.parametrize("kind", HEADERS)
def test_body_of_a_stranger_is_dropped_as_it_comes(kind: str) -> None:
    app = Flask("shop")
    tasks = FlaskTasks(app, signing_secrets=SECRET, environ={})

    with tasks.use(RecordingPusher()):
        post_to_flask(app, HEADERS[kind]())
        with little_memory():
            answers = [post_to_flask(app, HEADERS[kind]()) for _ in range(STRANGERS)]

    assert {status for status, _ in answers} == {401}
    assert max(count for _, count in answers) <= MAX_REFUSED_BODY + PIECE


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("make", [FastAPI, Starlette])
async def test_bodies_of_many_strangers_at_once_are_dropped_as_they_come(
    kind: str, make: Callable[[], Starlette]
) -> None:
    app = make()
    tasks = FastAPITasks(app, signing_secrets=SECRET, environ={})

    with tasks.use(RecordingPusher()):
        await post_to_asgi(app, HEADERS[kind]())
        with little_memory():
            answers = await asyncio.gather(
                *(post_to_asgi(app, HEADERS[kind]()) for _ in range(STRANGERS))
            )

    assert {status for status, _ in answers} == {401}
    assert max(count for _, count in answers) <= MAX_REFUSED_BODY + PIECE


async def test_stranger_who_hangs_up_is_not_answered() -> None:
    app = Starlette()
    tasks = FastAPITasks(app, signing_secrets=SECRET, environ={})
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    with tasks.use(RecordingPusher()):
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": []}
        await app(scope, receive, send)

    assert sent == []
