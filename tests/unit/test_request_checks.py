"""The checks of a request, called as a listener without ASGI would call them."""

from __future__ import annotations

import pytest

from poussetaches.api.auth import Tokens
from poussetaches.api.request_checks import Checks
from poussetaches.api.request_head import RequestHead
from poussetaches.api.request_limits import RequestLimits
from poussetaches.api.router import Router
from tests.integration.asgi import endpoint

HOST, FOREIGN_HOST = (b"host", b"localhost"), (b"host", b"evil.example")
FOREIGN = (b"origin", b"http://evil.example")
FULL, READ = (b"authorization", b"Bearer writes"), (b"authorization", b"Bearer reads")

ROUTES = Router(
    [
        endpoint("GET", "/healthz", is_open=True),
        endpoint("GET", "/v1/things"),
        endpoint("POST", "/v1/things"),
        endpoint("POST", "/v1/pushes", is_push=True),
        endpoint("POST", "/v1/things/preview", changes_nothing=True),
    ]
)


def code(
    method: str,
    path: str,
    *headers: tuple[bytes, bytes],
    tokens: Tokens | None = None,
    is_busy: bool = False,
) -> str | None:
    """Return the code of the problem of a request."""
    limits = RequestLimits(4)
    slots = [limits.enter()] if is_busy else []
    checks = Checks(tokens=tokens, hosts=(), request_limits=limits)
    problem = checks.problem(RequestHead(method, path, headers), ROUTES.find(method, path))
    for slot in slots:
        slot.leave()
    return None if problem is None else problem.code


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/v1/things", [HOST], None),
        ("POST", "/v1/pushes", [HOST], None),
        ("GET", "/v1/things", [FOREIGN_HOST], "unknown-host"),
        ("GET", "/healthz", [FOREIGN_HOST], None),
        ("GET", "/v1/things", [HOST, FOREIGN], None),
        ("POST", "/v1/pushes", [HOST, FOREIGN], "cross-site"),
        ("POST", "/v1/nothing", [HOST, FOREIGN], "cross-site"),
        ("GET", "/v1/nothing", [HOST], "not-found"),
        ("PUT", "/v1/things", [HOST], "method-not-allowed"),
    ],
)
def test_request_is_checked_without_a_token(
    method: str, path: str, headers: list[tuple[bytes, bytes]], expected: str | None
) -> None:
    assert code(method, path, *headers) == expected


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("POST", "/v1/pushes", [FULL], None),
        ("POST", "/v1/pushes", [FOREIGN_HOST, FULL], None),
        ("POST", "/v1/pushes", [HOST, FOREIGN, FULL], "cross-site"),
        ("POST", "/v1/pushes", [HOST], "unauthorized"),
        ("POST", "/v1/pushes", [READ], "read-only-token"),
        ("POST", "/v1/things/preview", [READ], None),
        ("GET", "/v1/things", [READ], None),
        ("GET", "/v1/nothing", [HOST], "unauthorized"),
        ("GET", "/v1/nothing", [READ], "not-found"),
        ("GET", "/healthz", [], None),
        ("POST", "/healthz", [], "method-not-allowed"),
    ],
)
def test_request_is_checked_with_a_token(
    method: str, path: str, headers: list[tuple[bytes, bytes]], expected: str | None
) -> None:
    assert code(method, path, *headers, tokens=Tokens("writes", "reads")) == expected


def test_limit_comes_first_and_spares_pushes_and_health() -> None:
    assert code("GET", "/v1/things", FOREIGN_HOST, is_busy=True) == "busy"
    assert code("GET", "/v1/nothing", HOST, is_busy=True) == "busy"
    assert code("POST", "/v1/pushes", HOST, is_busy=True) is None
    assert code("GET", "/healthz", HOST, is_busy=True) is None
