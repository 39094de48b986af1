"""Requests to the API without a socket, for tests that control time and network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message

from poussetaches.api.endpoint import PATH_PARAMETER, Endpoint, Handler


class Answered(NamedTuple):
    """A response of the application."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool  # all of it was sent

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


async def request(
    app: ASGIApp, method: str, path: str, body: object = None, **headers: str
) -> Answered:
    """Make a request, its body in JSON, and return the whole answer."""
    content = b"" if body is None else json.dumps(body).encode()
    return await request_in_pieces(app, method, path, [content], on_sent=_go_on, **headers)


async def _go_on(message: Message) -> None:
    """Ignore the messages that are sent."""


async def request_in_pieces(
    app: ASGIApp,
    method: str,
    path: str,
    pieces: Sequence[bytes],
    *,
    on_sent: Callable[[Message], Awaitable[None]] = _go_on,
    **headers: str,
) -> Answered:
    """Make a request whose body arrives in pieces; return the answer."""
    sent: list[Message] = []
    given: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": left > 0}
        for left, piece in enumerate(reversed(pieces))
    ]

    async def receive() -> Message:
        if given:
            return given.pop()
        # The client stays connected, and has nothing more to say.
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    async def send(message: Message) -> None:
        sent.append(message)
        await on_sent(message)

    await app(_scope(method, path, headers), receive, send)
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answered(
        sent[0]["status"],
        answered,
        b"".join(message.get("body", b"") for message in sent[1:]),
        is_whole=not sent[-1].get("more_body", False),
    )


async def done(request: Request) -> Response:
    """Answer 204."""
    return Response(status_code=204)


def endpoint(
    method: str,
    path: str,
    *,
    handler: Handler = done,
    is_open: bool = False,
    changes_nothing: bool = False,
    is_push: bool = False,
) -> Endpoint:
    """Return a row of an API that takes any body; unless given, its handler does nothing."""
    return Endpoint(
        method=method,
        path=path,
        handler=handler,
        summary="",
        tag="",
        responses={204: None},
        body=Any,
        parameters=dict.fromkeys(PATH_PARAMETER.findall(path), str),
        is_open=is_open,
        changes_nothing=changes_nothing,
        is_push=is_push,
        is_hot=is_push,
    )


def _scope(method: str, target: str, headers: Mapping[str, str]) -> dict[str, object]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (name.replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in {"host": "127.0.0.1", **headers}.items()
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 7991),
    }
