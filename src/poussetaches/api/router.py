"""``Router``: finds the endpoint or mount of a request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

from starlette.types import ASGIApp

from poussetaches.api.endpoint import PATH_PARAMETER, Endpoint
from poussetaches.api.problems import Problem
from poussetaches.api.request_head import SAFE_METHODS, RequestHead

TEST_MODE = "/v1/test/"

Headers = Sequence[tuple[bytes, bytes]]

# Responses are data, which a browser must neither sniff nor show in a frame.
API_HEADERS: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)


class Mount(NamedTuple):
    """An ASGI application for a path and everything below it, such as static files.

    The checks of endpoints apply to it. ``headers`` replace the security headers of the API.
    """

    path: str  # without a trailing slash
    app: ASGIApp
    headers: Headers


class Resource(NamedTuple):
    """The endpoint or mount of a request; neither if its path or method is unknown."""

    endpoint: Endpoint | None = None
    parameters: Mapping[str, str] = {}
    mount: Mount | None = None
    allowed: frozenset[str] = frozenset()  # the methods of all endpoints at this path
    is_open: bool = False  # no token, any Host, and no limit on concurrent requests
    is_counted: bool = True  # the limit on concurrent requests applies
    is_audited: bool = True  # a success is logged as a change
    headers: Headers = API_HEADERS


class Router:
    """Finds resources. Endpoints take precedence over mounts."""

    def __init__(self, endpoints: Iterable[Endpoint], mounts: Sequence[Mount] = ()) -> None:
        self.endpoints = list(endpoints)
        self._mounts = mounts
        methods: dict[str, dict[str, Endpoint]] = {}
        for endpoint in self.endpoints:
            at_path = methods.setdefault(endpoint.path, {})
            for method in ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,):
                at_path.setdefault(method, endpoint)
        self._patterns = [(_pattern(path), at_path) for path, at_path in methods.items()]
        self._fixed = {
            (method, path): self._search(method, path)
            for path, at_path in methods.items()
            if not PATH_PARAMETER.search(path)
            for method in at_path
        }

    def find(self, method: str, path: str) -> Resource:
        """Return the resource of a request. Paths without parameters need no search."""
        resource = self._fixed.get((method, path))
        return self._search(method, path) if resource is None else resource

    def _search(self, method: str, path: str) -> Resource:
        endpoint: Endpoint | None = None
        parameters: Mapping[str, str] = {}
        at_path: dict[str, Endpoint] = {}
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            at_path |= methods
            if endpoint is None and method in methods:
                endpoint, parameters = methods[method], match.groupdict()
        if not at_path:
            return self._search_mounts(method, path)
        is_open = any(each.is_open for each in at_path.values())
        return Resource(
            endpoint,
            parameters,
            allowed=frozenset(at_path),
            is_open=is_open,
            is_counted=not is_open if endpoint is None else endpoint.is_counted,
            is_audited=endpoint is not None and endpoint.is_audited,
            # Pushes are sent by programs, thousands per second, and need no headers for browsers.
            headers=() if endpoint is not None and endpoint.is_push else API_HEADERS,
        )

    def _search_mounts(self, method: str, path: str) -> Resource:
        for mount in self._mounts:
            if path == mount.path or path.startswith(mount.path + "/"):
                is_change = method not in SAFE_METHODS
                return Resource(mount=mount, is_audited=is_change, headers=mount.headers)
        return Resource()


def path_problem(head: RequestHead, resource: Resource) -> Problem | None:
    """Return the 404 or 405 of a request with an unknown path or method."""
    if resource.endpoint is not None or resource.mount is not None:
        return None
    if not resource.allowed:
        return not_found_problem(head.path)
    allowed = ", ".join(sorted(resource.allowed))
    return Problem(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method-not-allowed",
        f"{head.path} does not support {head.method}; supported: {allowed}",
        headers=(("Allow", allowed),),
    )


def not_found_problem(path: str) -> Problem:
    """Return the 404 of an unknown path."""
    detail = f"there is no route {path}"
    if path.startswith(TEST_MODE):
        detail += f"; routes below {TEST_MODE} require --test-mode"
    else:
        detail += "; GET /openapi.json lists all routes"
    return Problem(HTTPStatus.NOT_FOUND, "not-found", detail)


def _pattern(path: str) -> re.Pattern[str]:
    """Return a pattern for the path of an endpoint. A parameter contains no slash."""
    pieces = PATH_PARAMETER.split(path)
    return re.compile(
        "".join(
            f"(?P<{piece}>[^/]+)" if number % 2 else re.escape(piece)
            for number, piece in enumerate(pieces)
        )
    )
