"""``PushHandler``: answers pushes over ASGI, or from the connection without a coroutine."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.request_body import check_length, read_body

R = TypeVar("R")

Headers = Sequence[tuple[bytes, bytes]]


class PendingPush(NamedTuple, Generic[R]):
    """A push that is being stored, and the response to its result."""

    stored: Future[R]
    respond: Callable[[R], Response]


class PushHandler:
    """The handler of an endpoint whose requests need only headers and a body to be stored.

    ``store`` begins to store the push of a request, and raises the error of one that is refused.
    """

    def __init__(
        self, store: Callable[[Headers, bytes], PendingPush[Any]], *, max_request: int
    ) -> None:
        self._store = store
        self._max_request = max_request  # bytes

    async def __call__(self, request: Request) -> Response:
        """Answer a push over ASGI."""
        body = await read_body(request, limit=self._max_request)
        pending = self._store(request.scope["headers"], body)
        return pending.respond(await pending.stored)

    def begin(self, headers: Headers, body: bytes) -> PendingPush[Any]:
        """Begin to store a push whose body has arrived."""
        check_length(body, limit=self._max_request)
        return self._store(headers, body)
