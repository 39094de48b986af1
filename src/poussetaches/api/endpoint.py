"""``Endpoint``: a method at a path, for the router, the checks and the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.problems import invalid
from poussetaches.core.msgspec_errors import field_and_reason

V = TypeVar("V")

Handler = Callable[[Request], Awaitable[Response]]

JSON = "application/json"
_JSON_TYPE = (b"content-type", JSON.encode())
QUERY_CODE = "invalid-query"
PATH_PARAMETER = re.compile(r"\{([a-z_]+)\}")

TaskId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="32 hexadecimal digits")]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A method at a path, with its input, its responses and its problems.

    ``query`` and ``body`` are the structs that requests are decoded into. ``responses`` has the
    type of the body for each status, None if it is empty. ``problems`` need not list statuses
    that are common to all endpoints, such as 401 and 500.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    responses: Mapping[int, Any]
    query: Any = None
    body: Any = None
    body_is_optional: bool = False
    body_media_types: Sequence[str] = (JSON,)
    response_media_type: str = JSON
    response_headers: Mapping[str, str] = {}  # descriptions by name, for successes
    problems: Sequence[int] = ()
    parameters: Mapping[str, Any] = {}  # types of the parameters in the path
    is_open: bool = False  # no token, any Host, and no limit on concurrent requests
    has_own_token: bool = False  # the handler checks a token of its own
    changes_nothing: bool = False  # for a POST; a GET never changes anything
    is_push: bool = False  # not in the audit log: its tasks are logged when they are attempted
    is_hot: bool = False  # thousands per second: no limit on concurrent requests
    is_described: bool = True  # in the OpenAPI document
    ignores_unknown: bool = False  # query parameters, and a body if it has none

    def __post_init__(self) -> None:
        assert self.query is None or self.query.__struct_config__.forbid_unknown_fields, self.path
        assert set(PATH_PARAMETER.findall(self.path)) == set(self.parameters), self.path

    @property
    def is_read_only(self) -> bool:
        """Return whether the read-only token is sufficient."""
        return self.changes_nothing or self.method == "GET"

    @property
    def is_counted(self) -> bool:
        """Return whether the limit on concurrent requests applies."""
        return not (self.is_hot or self.is_open)

    @property
    def is_audited(self) -> bool:
        """Return whether a success is logged as a change."""
        # Progress reports, with tokens of their own, arrive as often as once per second.
        return not (self.is_read_only or self.is_push or self.has_own_token)


class RawResponse(Response):
    """A response with complete headers, names in lower case, to which Starlette adds none."""

    def __init__(self, body: bytes, status: int, *headers: tuple[bytes, bytes]) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), *headers]


def json_response(
    value: object, status: HTTPStatus = HTTPStatus.OK, *headers: tuple[bytes, bytes]
) -> Response:
    """Return a JSON response; names of headers are in lower case."""
    return RawResponse(msgspec.json.encode(value), status.value, _JSON_TYPE, *headers)


def read_query(
    request: Request,
    struct: type[V],
    *,
    repeatable: Sequence[str] = (),
    codes: Mapping[str, str] = {},
) -> V:
    """Return the query of a request as a struct; the parameters ``repeatable`` may be repeated.

    ``codes`` are the problem codes of parameters that have one of their own.

    Raises:
        Problem: 422, a parameter is unknown, appears twice, or has an invalid value.
    """
    parameters: dict[str, object] = {}
    for name in dict.fromkeys(request.query_params.keys()):
        values = request.query_params.getlist(name)
        if name not in repeatable and len(values) > 1:
            raise invalid(codes.get(name, QUERY_CODE), name, "appears more than once")
        parameters[name] = values if name in repeatable else values[0]
    try:
        return msgspec.convert(parameters, struct, strict=False)
    except msgspec.ValidationError as exc:
        field, reason = field_and_reason(str(exc), struct, msgspec.json.encode(parameters))
        raise invalid(codes.get(field, QUERY_CODE), field, reason) from None
