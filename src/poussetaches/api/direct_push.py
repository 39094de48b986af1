"""``DirectPush``: answers pushes without ASGI, after the checks of every request."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.responses import Response

from poussetaches.api.push_handler import Headers, PushHandler
from poussetaches.api.request_checks import Checks
from poussetaches.api.request_head import RequestHead
from poussetaches.api.responder import Responder
from poussetaches.api.router import Resource, Router
from poussetaches.core.errors import StoreClosed

Reply = Callable[[Response], None]
# Method and request target, as they are sent.
DirectPushes = Mapping[tuple[bytes, bytes], "DirectPush"]


class DirectPush:
    """Answers pushes to one endpoint."""

    def __init__(
        self, resource: Resource, handler: PushHandler, checks: Checks, responder: Responder
    ) -> None:
        assert resource.endpoint is not None
        self._method = resource.endpoint.method
        self._path = resource.endpoint.path
        self._resource = resource
        self._handler = handler
        self._checks = checks
        self._responder = responder

    def answer(self, headers: Headers, peer: str | None, body: bytes, reply: Reply) -> None:
        """Check and store a push; call ``reply`` with the response, now or when it is stored."""
        head = RequestHead(self._method, self._path, headers, peer)
        problem = self._checks.problem(head, self._resource)
        if problem is not None:
            reply(self._responder.refusal(problem, head, self._resource))
            return
        try:
            pending = self._handler.begin(headers, body)
        except Exception as exc:
            reply(self._responder.failure(exc, head, self._resource))
            return
        pending.stored.add_done_callback(partial(self._stored, head, pending.respond, reply))

    def _stored(
        self,
        head: RequestHead,
        respond: Callable[[Any], Response],
        reply: Reply,
        stored: Future[Any],
    ) -> None:
        try:
            if stored.cancelled():
                raise StoreClosed
            response = respond(stored.result())
            response.raw_headers += self._responder.common_headers(
                head, self._resource, response.status_code
            )
        except Exception as exc:
            response = self._responder.failure(exc, head, self._resource)
        reply(response)


def direct_pushes(router: Router, checks: Checks, responder: Responder) -> DirectPushes:
    """Return the endpoints that have a ``PushHandler``."""
    return {
        (endpoint.method.encode(), endpoint.path.encode()): DirectPush(
            router.find(endpoint.method, endpoint.path), endpoint.handler, checks, responder
        )
        for endpoint in router.endpoints
        if isinstance(endpoint.handler, PushHandler)
    }
