"""Refuses the input that an endpoint does not read, so that no instruction in it is ignored."""

from __future__ import annotations

from starlette.requests import Request

from poussetaches.api.endpoint import QUERY_CODE, Endpoint
from poussetaches.api.problems import invalid
from poussetaches.api.request_body import read_body

MAX_UNREAD = 1024 * 1024  # bytes
EMPTY = (b"", b"{}")  # many clients send an empty object for no body


async def check_unread_input(request: Request, endpoint: Endpoint) -> None:
    """Check query parameters and the body if the endpoint has none.

    Raises:
        Problem: 422, there are some; 400 or 413, the body is incomplete or too long.
    """
    if (
        endpoint.query is None
        and request.scope.get("query_string")
        and not endpoint.ignores_unknown
    ):
        for name in request.query_params:
            raise invalid(QUERY_CODE, name, "is unknown: this route has no query parameters")
    if endpoint.body is not None or not _has_body(request):
        return
    body = await read_body(request, limit=MAX_UNREAD, setting=None)
    if body.strip() not in EMPTY and not endpoint.ignores_unknown:
        raise invalid("invalid-body", "", "this route has no request body; remove it")


def _has_body(request: Request) -> bool:
    for name, value in request.scope["headers"]:
        if name == b"transfer-encoding" or (name == b"content-length" and value != b"0"):
            return True
    return False
