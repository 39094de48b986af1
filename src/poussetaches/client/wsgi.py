"""The receiver round a WSGI application: outside of all that the application puts in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from poussetaches.client.receive import IncomingRequest, Receiver, Reply, too_large

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

# These two have no HTTP_ before their names (PEP 3333).
_BARE = ("CONTENT_TYPE", "CONTENT_LENGTH")


class WsgiReceiver:
    """Answers deliveries, and hands everything else to the application.

    ``on_request`` is called at each request, whoever answers it.
    """

    def __init__(
        self, app: WsgiApp, receiver: Receiver, *, on_request: Callable[[], object]
    ) -> None:
        self._app = app
        self._receiver = receiver
        self._on_request = on_request

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        self._on_request()
        # PEP 3333: the bytes of the path, each as the character of that number.
        path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
        if not self._receiver.takes(path):
            return self._app(environ, start_response)
        headers = _headers_of(environ)
        most = self._receiver.most_to_read(headers)
        body = _read(environ, most + 1)
        if len(body) > most:
            return _answer(too_large(most), start_response)
        request = IncomingRequest(environ["REQUEST_METHOD"], path, headers, body)
        return _answer(self._receiver.run(request), start_response)


def _headers_of(environ: Environ) -> dict[str, str]:
    found = {
        name.removeprefix("HTTP_").replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in _BARE
    }
    return {name: str(value) for name, value in found.items()}


def _read(environ: Environ, most: int) -> bytes:
    """Return the body, or its first bytes."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isdecimal():
        most = min(int(length), most)
    elif not environ.get("wsgi.input_terminated"):
        return b""
    body: bytes = environ["wsgi.input"].read(most)
    return body


def _answer(reply: Reply, start_response: StartResponse) -> Iterable[bytes]:
    headers = [*reply.headers.items(), ("Content-Length", str(len(reply.body)))]
    start_response(f"{int(reply.status)} {HTTPStatus(reply.status).phrase}", headers)
    return [reply.body]
