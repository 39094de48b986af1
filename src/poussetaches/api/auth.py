"""Who may use the API: those with a token, of which there may be one that can only read."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import NamedTuple

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from poussetaches.api.endpoint import Endpoint, matches_any
from poussetaches.api.problems import Problem

# A challenge each in a header of its own: Chromium takes one header for one challenge, and
# would not know that it may ask for a password.
CHALLENGES = ("Bearer", 'Basic realm="poussetaches", charset="UTF-8"')

# Whoever watches over the process has no token.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})

_READING_METHODS = frozenset({"GET", "HEAD"})


class Tokens(NamedTuple):
    """The token that may do everything, and the one that may read."""

    api: str
    read: str | None = None

    def may_do_everything(self, token: bytes) -> bool:
        """Tell whether a token is the one that may do everything."""
        return hmac.compare_digest(token, self.api.encode())

    def may_read(self, token: bytes) -> bool:
        """Tell whether a token is the one that may read."""
        return self.read is not None and hmac.compare_digest(token, self.read.encode())


class Authentication:
    """Lets those with a token through to an application, and nobody else."""

    def __init__(self, app: ASGIApp, *, tokens: Tokens, endpoints: Sequence[Endpoint]) -> None:
        self._app = app
        self._tokens = tokens
        self._own_tokens: Sequence[Route] = [
            endpoint.route() for endpoint in endpoints if endpoint.has_own_token
        ]
        self._reading: Sequence[Route] = [
            endpoint.route()
            for endpoint in endpoints
            if endpoint.only_reads and endpoint.method not in _READING_METHODS
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        refusal = None if scope["path"] in OPEN_PATHS else self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    def may_pass(self, scope: Scope) -> bool:
        """Tell whether a request has the token that may do everything."""
        token = given_token(scope["headers"])
        return token is not None and self._tokens.may_do_everything(token)

    def _refusal(self, scope: Scope) -> Response | None:
        token = given_token(scope["headers"])
        if token is not None and self._tokens.may_do_everything(token):
            return None
        if matches_any(self._own_tokens, scope):
            return None
        if token is not None and self._tokens.may_read(token):
            return None if self._only_reads(scope) else _refuse_writing(scope)
        return _ask_for_token(is_wrong=token is not None)

    def _only_reads(self, scope: Scope) -> bool:
        return scope["method"] in _READING_METHODS or matches_any(self._reading, scope)


def given_token(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the token of a Bearer, or the password of a Basic header; None without either."""
    given = next((value for name, value in headers if name == b"authorization"), b"")
    scheme, _, credentials = given.strip().partition(b" ")
    credentials = credentials.strip()
    match scheme.lower():
        case b"bearer":
            return credentials
        case b"basic":
            return _password(credentials)
        case _:
            return None


def _password(credentials: bytes) -> bytes | None:
    try:
        user_and_password = base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return None
    return user_and_password.partition(b":")[2]


def _ask_for_token(*, is_wrong: bool) -> Response:
    what = "the token is not right" if is_wrong else "a token is needed"
    detail = f"{what}; give the server's API token as Bearer, or as the password of Basic"
    response = Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail).response()
    for challenge in CHALLENGES:
        response.headers.append("WWW-Authenticate", challenge)
    return response


def _refuse_writing(scope: Scope) -> Response:
    detail = f"this token may only read; {scope['method']} {scope['path']} needs the API token"
    return Problem(HTTPStatus.FORBIDDEN, "read-only-token", detail).response()
