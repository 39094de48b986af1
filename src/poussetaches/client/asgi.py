"""The receiver round an ASGI application: outside of all that the application puts in the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from poussetaches.client.receive import IncomingRequest, Receiver, Reply, too_large

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsgiReceiver:
    """Answers deliveries, and hands everything else to the application.

    ``on_request`` is called at each request, whoever answers it.
    """

    def __init__(
        self,
        app: AsgiApp,
        receive: Callable[[Scope], Receiver],
        *,
        on_request: Callable[[], object],
    ) -> None:
        self._app = app
        self._receiver_for = receive
        self._on_request = on_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._on_request()
        receiver = self._receiver_for(scope)
        path = _path_of(scope)
        if not receiver.takes(path):
            await self._app(scope, receive, send)
            return
        headers = _headers_of(scope["headers"])
        most = receiver.most_to_read(headers)
        body = await _read(receive, most)
        if body is None:
            return
        if len(body) > most:
            reply = too_large(most)
        else:
            reply = await receiver.arun(IncomingRequest(scope["method"], path, headers, body))
        await _answer(reply, send)


def _path_of(scope: Scope) -> str:
    """Return the path below where the application is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _headers_of(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}


async def _read(receive: Receive, most: int) -> bytes | None:
    """Return the body, or as much of it as shows that it is too long; None when it broke off."""
    body = bytearray()
    while len(body) <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)


async def _answer(reply: Reply, send: Send) -> None:
    headers = {**reply.headers, "Content-Length": str(len(reply.body))}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(reply.status), "headers": raw})
    await send({"type": "http.response.body", "body": reply.body})
