"""``Endpoint``: one row of the API. Routing, checks and the OpenAPI document follow from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.reading import invalid
from poussetaches.core.refusal import field_and_reason

V = TypeVar("V")

Handler = Callable[[Request], Awaitable[Response]]

JSON = "application/json"
PATH_PARAMETER = re.compile(r"\{([a-z_]+)\}")

TaskId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="32 hexadecimal digits")]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A method at a path, with its input, its answers and its refusals.

    ``query`` and ``body`` are the structs that requests are decoded into. ``answers`` has the type
    of the body for each status, None if it is empty. ``problems`` need not list statuses that
    every endpoint can answer, such as 401 and 500.
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
    answer_headers: Mapping[str, str] = {}  # names and meanings, on success
    problems: Sequence[int] = ()
    parameters: Mapping[str, Any] = {}  # types of the parameters in the path
    is_open: bool = False  # needs no token and no known Host, and is always answered
    has_own_token: bool = False  # the handler checks a token that is not one of the API
    reads: bool = False  # a GET always does; so may POST when it changes nothing
    is_push: bool = False  # not journaled: its tasks are logged when they are attempted
    is_hot: bool = False  # comes by the thousand: no limit on concurrent requests
    is_described: bool = True  # in the OpenAPI document

    def __post_init__(self) -> None:
        """Check that every parameter of the path has a type."""
        assert set(PATH_PARAMETER.findall(self.path)) == set(self.parameters), self.path

    @property
    def only_reads(self) -> bool:
        """Return whether the read-only token is enough."""
        return self.reads or self.method == "GET"

    @property
    def is_counted(self) -> bool:
        """Return whether the limit on concurrent requests applies."""
        return not (self.is_hot or self.is_open)

    @property
    def is_journaled(self) -> bool:
        """Return whether a success is logged as a change."""
        # Handlers report progress, with tokens of their own, up to once a second.
        return not (self.only_reads or self.is_push or self.has_own_token)


class Plain(Response):
    """A response with complete headers; Starlette's own would check which are missing."""

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
    """Return a JSON response."""
    return Plain(msgspec.json.encode(value), int(status), {"Content-Type": JSON, **headers})


def read_query(request: Request, struct: type[V], *, many: Sequence[str] = ()) -> V:
    """Return a request's query as a struct; parameters named in ``many`` may be repeated.

    Raises:
        Problem: 422, a parameter is unknown, appears twice, or has an invalid value.
    """
    found: dict[str, object] = {}
    for name in dict.fromkeys(request.query_params.keys()):
        values = request.query_params.getlist(name)
        if name not in many and len(values) > 1:
            raise invalid("invalid-query", name, "appears more than once")
        found[name] = values if name in many else values[0]
    try:
        return msgspec.convert(found, struct, strict=False)
    except msgspec.ValidationError as exc:
        raise invalid("invalid-query", *field_and_reason(str(exc), struct)) from None
