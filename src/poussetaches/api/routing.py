"""``Routes``: which endpoint a request is for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from poussetaches.api.endpoint import PATH_PARAMETER, Endpoint
from poussetaches.api.problems import Problem
from poussetaches.api.request_head import RequestHead

TEST_MODE = "/v1/test/"


class Resource(NamedTuple):
    """What a request is for: an endpoint, or nothing."""

    endpoint: Endpoint | None = None
    parameters: Mapping[str, str] = {}
    allowed: frozenset[str] = frozenset()  # the methods of all endpoints at this path
    is_open: bool = False  # needs no token and no known Host, and is always answered
    is_counted: bool = True  # the limit on concurrent requests applies
    is_journaled: bool = True  # a success is logged as a change


class Routes:
    """Finds resources."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        methods: dict[str, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            found = methods.setdefault(endpoint.path, {})
            for method in ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,):
                found.setdefault(method, endpoint)
        self._patterns = [(_pattern(path), found) for path, found in methods.items()]
        self._fixed = {
            (method, path): self._search(method, path)
            for path, found in methods.items()
            if not PATH_PARAMETER.search(path)
            for method in found
        }

    def find(self, method: str, path: str) -> Resource:
        """Return what a request is for. Pushes are found without a search."""
        found = self._fixed.get((method, path))
        return self._search(method, path) if found is None else found

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
            return Resource()
        is_open = any(each.is_open for each in at_path.values())
        return Resource(
            endpoint,
            parameters,
            allowed=frozenset(at_path),
            is_open=is_open,
            is_counted=not is_open if endpoint is None else endpoint.is_counted,
            is_journaled=endpoint is not None and endpoint.is_journaled,
        )


def path_problem(head: RequestHead, resource: Resource) -> Problem | None:
    """Return the 404 or 405 of a request that is for no endpoint."""
    if resource.endpoint is not None:
        return None
    if not resource.allowed:
        return nothing_at(head.path)
    allowed = ", ".join(sorted(resource.allowed))
    return Problem(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method-not-allowed",
        f"{head.method} is not allowed here; allowed: {allowed}",
        headers=(("Allow", allowed),),
    )


def nothing_at(path: str) -> Problem:
    """Return the 404 of a path."""
    detail = f"there is nothing at {path}"
    if path.startswith(TEST_MODE):
        detail += f"; what is below {TEST_MODE} is served with --test-mode only"
    return Problem(HTTPStatus.NOT_FOUND, "not-found", detail)


def _pattern(path: str) -> re.Pattern[str]:
    """Return the pattern of an endpoint's path; a parameter has no slash."""
    pieces = PATH_PARAMETER.split(path)
    return re.compile(
        "".join(
            f"(?P<{piece}>[^/]+)" if number % 2 else re.escape(piece)
            for number, piece in enumerate(pieces)
        )
    )
