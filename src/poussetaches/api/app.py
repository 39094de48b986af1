"""``build_app``: endpoints and mounts as one ASGI application, behind the checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poussetaches.api.audit_log import log_change
from poussetaches.api.auth import Tokens
from poussetaches.api.dialect import V1_ONLY, Dialects
from poussetaches.api.endpoint import Endpoint
from poussetaches.api.problems import Problem, problem_of
from poussetaches.api.request_checks import Checks
from poussetaches.api.request_head import RequestHead
from poussetaches.api.request_limits import SLOT, RequestLimits, Slot
from poussetaches.api.router import Headers, Mount, Resource, Router, not_found_problem
from poussetaches.api.unread_input import check_unread_input
from poussetaches.core.errors import PousseTachesError


def build_app(
    endpoints: Sequence[Endpoint],
    *,
    mounts: Sequence[Mount] = (),
    dialects: Dialects = V1_ONLY,
    tokens: Tokens | None,
    request_limits: RequestLimits,
    hosts: Collection[str] = (),
    count_failure: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """Return the application; without tokens, every client has full access.

    Without tokens, ``Host`` must be an IP address, a name without a dot, or one of ``hosts``.
    ``count_failure`` is called for each request that fails because of an internal error.
    """
    return App(
        router=Router(endpoints, mounts),
        checks=Checks(tokens=tokens, hosts=hosts, request_limits=request_limits),
        dialects=dialects,
        request_limits=request_limits,
        count_failure=count_failure,
        date=Date(),
    )


@dataclass(frozen=True, kw_only=True)
class App:
    """Routes a request, checks it, and calls its endpoint or mount."""

    router: Router
    checks: Checks
    dialects: Dialects
    request_limits: RequestLimits
    count_failure: Callable[[], None]
    date: Date

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        head = RequestHead(
            scope["method"], scope["path"], scope["headers"], client[0] if client else None
        )
        resource = self.router.find(head.method, head.path)
        problem = self.checks.problem(head, resource)
        if problem is not None:
            await self._refusal(problem, head, resource)(scope, receive, send)
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
            is_expected = isinstance(exc, _EXPECTED)
            has_begun = response is not None if reply is None else reply.has_begun
            # Once a response has begun, it raises no problem.
            if is_expected or not has_begun:
                problem = _problem_of(exc, head)
                await self._refusal(problem, head, resource)(scope, receive, send)
            if not is_expected:
                self.count_failure()
                raise  # to the server, which logs it
        finally:
            if slot is not None:
                slot.leave()

    def _refusal(self, problem: Problem, head: RequestHead, resource: Resource) -> Response:
        response = self.dialects.refusal(head.path, problem)
        response.raw_headers += self._begin(head, resource, None, response.status_code)
        return response

    def _begin(
        self, head: RequestHead, resource: Resource, slot: Slot | None, status: int
    ) -> Headers:
        """Write a change to the audit log; return the headers that every response has."""
        if slot is not None:
            slot.leave()  # sending the response takes as long as the client does
        if resource.is_audited:
            log_change(head, status)
        return (self.date.header(), *resource.headers)


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


class Date:
    """The Date header (RFC 9110, section 6.6.1), formatted at most once per second."""

    def __init__(self) -> None:
        self._second = 0
        self._header = (b"date", b"")

    def header(self) -> tuple[bytes, bytes]:
        """Return the name and the current value."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._header = (b"date", formatdate(second, usegmt=True).encode())
        return self._header


_EXPECTED = (Problem, PousseTachesError, HTTPException)


async def _call_mount(mount: Mount | None, scope: Scope, receive: Receive, reply: Reply) -> None:
    assert mount is not None  # otherwise the checks refuse the request
    await mount.app({**scope, "root_path": scope["root_path"] + mount.path}, receive, reply)


def _problem_of(exc: Exception, head: RequestHead) -> Problem:
    """Return the problem of an error; mounts raise Starlette's ``HTTPException``."""
    if not isinstance(exc, HTTPException):
        return problem_of(exc)
    status = HTTPStatus(exc.status_code)
    if status is HTTPStatus.NOT_FOUND:
        return not_found_problem(head.path)
    code = "method-not-allowed" if status is HTTPStatus.METHOD_NOT_ALLOWED else "refused"
    headers = tuple((exc.headers or {}).items())
    return Problem(status, code, exc.detail, headers=headers)
