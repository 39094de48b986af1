"""The receiver as an ASGI wrapper, outside of the application's own middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from poussetaches.client.delivery_auth import IncomingRequest, Intake, Reply
from poussetaches.client.receiver import Receiver

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsgiReceiver:
    """Responds to deliveries, and passes other requests to the application.

    ``on_request`` is called at each request, also at those for the application.
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
        """Respond to a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._on_request()
        receiver = self._receiver_for(scope)
        path = _path_of(scope)
        if not receiver.takes(path):
            await self._app(scope, receive, send)
            return
        intake = receiver.admit(
            IncomingRequest(
                scope["method"],
                path,
                _headers_of(scope["headers"]),
                query=scope.get("query_string", b"").decode("latin-1"),
                mount=scope.get("root_path", ""),
            )
        )
        if await _take(receive, intake):
            await _answer(await receiver.afinish(intake), send)


def _path_of(scope: Scope) -> str:
    """Return the path below the mount point of the application."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _headers_of(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}


async def _take(receive: Receive, intake: Intake) -> bool:
    """Read the body; return False if the client disconnected."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        if not intake.feed(message.get("body", b"")) or not message.get("more_body"):
            return True


async def _answer(reply: Reply, send: Send) -> None:
    headers = {**reply.headers, "Content-Length": str(len(reply.body))}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(reply.status), "headers": raw})
    await send({"type": "http.response.body", "body": reply.body})
