"""``build_app``: endpoints and mounts as one ASGI application, behind the checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from poussetaches.api.auth import Tokens
from poussetaches.api.dialect import V1_ONLY, Dialects
from poussetaches.api.direct_push import DirectPushes, direct_pushes
from poussetaches.api.endpoint import Endpoint
from poussetaches.api.request_checks import Checks
from poussetaches.api.request_head import RequestHead
from poussetaches.api.request_limits import SLOT, RequestLimits, Slot
from poussetaches.api.responder import EXPECTED, Responder
from poussetaches.api.router import Headers, Mount, Resource, Router
from poussetaches.api.unread_input import check_unread_input


def build_app(
    endpoints: Sequence[Endpoint],
    *,
    mounts: Sequence[Mount] = (),
    dialects: Dialects = V1_ONLY,
    tokens: Tokens | None,
    request_limits: RequestLimits,
    hosts: Collection[str] = (),
    count_failure: Callable[[], None] = lambda: None,
) -> App:
    """Return the application; without tokens, every client has full access.

    Without tokens, ``Host`` must be an IP address, a name without a dot, or one of ``hosts``.
    ``count_failure`` is called for each request that fails because of an internal error.
    """
    router = Router(endpoints, mounts)
    checks = Checks(tokens=tokens, hosts=hosts, request_limits=request_limits)
    responder = Responder(dialects, count_failure=count_failure)
    return App(
        router=router,
        checks=checks,
        responder=responder,
        request_limits=request_limits,
        pushes=direct_pushes(router, checks, responder),
    )


class Application(Protocol):
    """An ASGI application, and its endpoints that need no ASGI."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

    @property
    def pushes(self) -> DirectPushes:
        """The endpoints that answer pushes without ASGI."""


@dataclass(frozen=True, kw_only=True)
class App:
    """Routes a request, checks it, and calls its endpoint or mount."""

    router: Router
    checks: Checks
    responder: Responder
    request_limits: RequestLimits
    pushes: DirectPushes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        head = RequestHead(
            scope["method"], scope["path"], scope["headers"], client[0] if client else None
        )
        resource = self.router.find(head.method, head.path)
        problem = self.checks.problem(head, resource)
        if problem is not None:
            refusal = self.responder.refusal(problem, head, resource)
            await refusal(scope, receive, send)
            return
        slot: Slot | None = None
        if resource.is_counted:
            scope[SLOT] = slot = self.request_limits.enter()
        response: Response | None = None
        reply: Reply | None = None
        try:
            if resource.endpoint is None:
                reply = Reply(send, partial(self._begin, head, resource, slot))
                await _call_mount(resource.mount, scope, receive, reply)
                return
            if resource.parameters:
                scope["path_params"] = resource.parameters
            request = Request(scope, receive)
            if scope.get("query_string") or resource.endpoint.body is None:
                await check_unread_input(request, resource.endpoint)
            response = await resource.endpoint.handler(request)
            response.raw_headers += self._begin(head, resource, slot, response.status_code)
            await response(scope, receive, send)
        except Exception as exc:
            has_begun = response is not None if reply is None else reply.has_begun
            if has_begun and not isinstance(exc, EXPECTED):
                self.responder.count_failure()
                raise  # to the server, which logs it and closes the connection
            failure = self.responder.failure(exc, head, resource)
            await failure(scope, receive, send)
        finally:
            if slot is not None:
                slot.leave()

    def _begin(
        self, head: RequestHead, resource: Resource, slot: Slot | None, status: int
    ) -> Headers:
        """Return the headers that every response has."""
        if slot is not None:
            slot.leave()  # sending the response takes as long as the client does
        return self.responder.common_headers(head, resource, status)


class Reply:
    """Sends the response of a mount, with the headers that every response has."""

    def __init__(self, send: Send, begin: Callable[[int], Headers]) -> None:
        self._send = send
        self._begin = begin
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self.has_begun = True
            message["headers"] = [*message["headers"], *self._begin(message["status"])]
        await self._send(message)


async def _call_mount(mount: Mount | None, scope: Scope, receive: Receive, reply: Reply) -> None:
    assert mount is not None  # otherwise the checks refuse the request
    await mount.app({**scope, "root_path": scope["root_path"] + mount.path}, receive, reply)
