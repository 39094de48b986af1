"""The tokens of the API: one for everything, and perhaps one that is read-only."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

from poussetaches.api.problems import Problem
from poussetaches.api.request_head import RequestHead
from poussetaches.api.router import Resource

# Each challenge has a header of its own: Chromium reads one challenge per header, and would not
# ask for a password otherwise.
CHALLENGES = ("Bearer", 'Basic realm="poussetaches", charset="UTF-8"')

_READING_METHODS = frozenset({"GET", "HEAD"})


class Tokens(NamedTuple):
    """The token that may do everything, and the one that may read."""

    api: str
    read: str | None = None

    def may_do_everything(self, token: bytes) -> bool:
        """Return whether a token is the one that may do everything."""
        return hmac.compare_digest(token, self.api.encode())

    def may_read(self, token: bytes) -> bool:
        """Return whether a token is the read-only one."""
        return self.read is not None and hmac.compare_digest(token, self.read.encode())


def token_problem(head: RequestHead, resource: Resource, *, tokens: Tokens) -> Problem | None:
    """Return the 401 or 403 of a request whose token is missing, wrong or read-only."""
    if resource.is_open:
        return None
    token = given_token(head.headers)
    if token is not None and tokens.may_do_everything(token):
        return None
    endpoint = resource.endpoint
    if endpoint is not None and endpoint.has_own_token:
        return None
    if token is None or not tokens.may_read(token):
        return _unauthorized(is_wrong=token is not None)
    if head.method in _READING_METHODS or (endpoint is not None and endpoint.is_read_only):
        return None
    detail = f"the token is read-only; {head.method} {head.path} requires the API token"
    return Problem(HTTPStatus.FORBIDDEN, "read-only-token", detail)


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


def _unauthorized(*, is_wrong: bool) -> Problem:
    what = "the token is wrong" if is_wrong else "a token is required"
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        f"{what}; send the server's API token as a Bearer token, or as the password of Basic",
        headers=tuple(("WWW-Authenticate", challenge) for challenge in CHALLENGES),
    )
