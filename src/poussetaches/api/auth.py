"""Authentication: the API token, and an optional read-only token."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

from poussetaches.api.problems import Problem
from poussetaches.api.request_head import RequestHead
from poussetaches.api.router import Resource

# One header per challenge: Chromium reads only one of each header, and asks for a password only
# if that is Basic.
CHALLENGES = ("Bearer", 'Basic realm="poussetaches", charset="UTF-8"')

_READ_METHODS = frozenset({"GET", "HEAD"})


class Tokens(NamedTuple):
    """The API token, and the read-only token."""

    api: str
    read: str | None = None

    def has_full_access(self, token: bytes) -> bool:
        return hmac.compare_digest(token, self.api.encode())

    def has_read_access(self, token: bytes) -> bool:
        return self.read is not None and hmac.compare_digest(token, self.read.encode())


def token_problem(head: RequestHead, resource: Resource, *, tokens: Tokens) -> Problem | None:
    """Return the 401 or 403 of a request whose token is missing, wrong or read-only."""
    if resource.is_open:
        return None
    token = token_of(head.headers)
    if token is not None and tokens.has_full_access(token):
        return None
    endpoint = resource.endpoint
    if endpoint is not None and endpoint.has_own_token:
        return None
    if token is None or not tokens.has_read_access(token):
        return _unauthorized(is_wrong=token is not None)
    if head.method in _READ_METHODS or (endpoint is not None and endpoint.is_read_only):
        return None
    detail = f"the token is read-only; {head.method} {head.path} requires the API token"
    return Problem(HTTPStatus.FORBIDDEN, "read-only-token", detail)


def token_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the token of a Bearer header, or the password of a Basic one; None without them."""
    header = next((value for name, value in headers if name == b"authorization"), b"")
    scheme, _, credentials = header.strip().partition(b" ")
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
    except ValueError:
        return None
    return user_and_password.partition(b":")[2]


def _unauthorized(*, is_wrong: bool) -> Problem:
    what = "the token is wrong" if is_wrong else "a token is required"
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        f"{what}; send the server's API token as a Bearer token or Basic password",
        headers=tuple(("WWW-Authenticate", challenge) for challenge in CHALLENGES),
    )
