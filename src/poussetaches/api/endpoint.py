"""``Endpoint``: one row of the API, from which its route and its OpenAPI description are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from poussetaches.api.reading import invalid
from poussetaches.core.refusal import place_of

V = TypeVar("V")

Handler = Callable[[Request], Awaitable[Response]]

JSON = "application/json"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A method at a path: what it takes, what it answers, and how it refuses.

    ``query`` and ``body`` are the structs that requests are decoded into; ``answers`` has the
    type of the body for each status, None for an empty one. 401 and 500 need not be listed
    among the ``problems``: they may come from everywhere.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    answers: Mapping[int, Any]
    query: Any = None
    body: Any = None
    body_is_optional: bool = False
    body_media_types: Sequence[str] = (JSON,)
    answer_media_type: str = JSON
    answer_headers: Mapping[str, str] = {}  # names and what they say, on success
    problems: Sequence[int] = ()
    has_own_token: bool = False  # the handler checks a token that is not one of the API
    reads: bool = False  # a GET always does; so may POST when it changes nothing
    is_hot: bool = False  # comes by the thousand: goes past the router; its path has no parameter

    @property
    def only_reads(self) -> bool:
        """Tell whether a token that may only read is enough."""
        return self.reads or self.method == "GET"

    def route(self) -> Route:
        """Return the route that serves it."""
        return Route(self.path, self.handler, methods=[self.method])


def matches_any(routes: Iterable[Route], scope: Scope) -> bool:
    """Return whether a request is for one of some routes, by method and path."""
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


class Plain(Response):
    """An answer whose headers are known to be complete, and so need not be looked through."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ]


def answer(
    value: object,
    status: HTTPStatus = HTTPStatus.OK,
    *,
    headers: Mapping[str, str] = {},
) -> Response:
    """Return an answer in JSON."""
    return Plain(msgspec.json.encode(value), int(status), {"Content-Type": JSON, **headers})


def read_query(request: Request, struct: type[V], *, many: Sequence[str] = ()) -> V:
    """Return a request's query as a struct; parameters named in ``many`` may be repeated.

    Raises:
        Problem: 422, a parameter is unknown, is given twice, or has a value that is not allowed.
    """
    found: dict[str, object] = {}
    for name in dict.fromkeys(request.query_params.keys()):
        values = request.query_params.getlist(name)
        if name not in many and len(values) > 1:
            raise invalid("invalid-query", name, "is given more than once")
        found[name] = values if name in many else values[0]
    try:
        return msgspec.convert(found, struct, strict=False)
    except msgspec.ValidationError as exc:
        raise invalid("invalid-query", *place_of(str(exc), struct)) from None
