"""The receiver as a WSGI wrapper, outside of the application's own middleware."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any

from poussetaches.client.delivery_auth import PIECE, IncomingRequest, Reply
from poussetaches.client.receiver import Receiver

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

# These two have no HTTP_ before their names (PEP 3333).
_BARE = ("CONTENT_TYPE", "CONTENT_LENGTH")


class WsgiReceiver:
    """Responds to deliveries, and passes other requests to the application.

    ``on_request`` is called at each request, also at those for the application.
    """

    def __init__(
        self, app: WsgiApp, receiver: Receiver, *, on_request: Callable[[], object]
    ) -> None:
        self._app = app
        self._receiver = receiver
        self._on_request = on_request

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Respond to a request."""
        self._on_request()
        path = _text_of(environ.get("PATH_INFO", ""))
        if not self._receiver.takes(path):
            return self._app(environ, start_response)
        intake = self._receiver.admit(
            IncomingRequest(
                environ["REQUEST_METHOD"],
                path,
                _headers_of(environ),
                query=environ.get("QUERY_STRING", ""),
                mount=_text_of(environ.get("SCRIPT_NAME", "")),
            )
        )
        for piece in _pieces(environ):
            if not intake.feed(piece):
                break
        return _answer(self._receiver.finish(intake), start_response)


def _text_of(path: str) -> str:
    """Return a path as text; PEP 3333 passes its bytes as latin-1."""
    return path.encode("latin-1").decode("utf-8", "replace")


def _headers_of(environ: Environ) -> dict[str, str]:
    found = {
        name.removeprefix("HTTP_").replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in _BARE
    }
    return {name: str(value) for name, value in found.items()}


def _pieces(environ: Environ) -> Iterator[bytes]:
    """Yield the body in pieces."""
    length = environ.get("CONTENT_LENGTH") or ""
    left = math.inf if environ.get("wsgi.input_terminated") else 0
    if length.isdecimal():
        left = int(length)
    while left > 0:
        piece: bytes = environ["wsgi.input"].read(int(min(left, PIECE)))
        if not piece:
            return
        left -= len(piece)
        yield piece


def _answer(reply: Reply, start_response: StartResponse) -> Iterable[bytes]:
    headers = [*reply.headers.items(), ("Content-Length", str(len(reply.body)))]
    start_response(f"{int(reply.status)} {HTTPStatus(reply.status).phrase}", headers)
    return [reply.body]
