"""``build_app``: the routes of the API as one ASGI application."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from email.utils import formatdate

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poussetaches.api.auth import Authentication, Tokens
from poussetaches.api.browsers import BrowserGuard
from poussetaches.api.endpoint import Endpoint
from poussetaches.api.journal import Journal
from poussetaches.api.problems import Problem, answer_problem
from poussetaches.api.request_limits import LimitedRequests, RequestLimits
from poussetaches.core.errors import PousseTachesError


def build_app(
    endpoints: Sequence[Endpoint],
    *,
    tokens: Tokens | None,
    request_limits: RequestLimits,
    hosts: Collection[str] = (),
    count_failure: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """Return the application; without tokens everybody may do everything.

    ``hosts`` are the names that it may be called by without tokens, besides those without a dot.
    ``count_failure`` is called for each request that failed because of an internal error.
    """
    routes = Starlette(
        routes=[endpoint.route() for endpoint in endpoints],
        exception_handlers={
            Problem: answer_problem,
            PousseTachesError: answer_problem,
            HTTPException: answer_problem,
            Exception: answer_problem,
        },
    )
    routes.router.redirect_slashes = False
    app: ASGIApp = Journal(routes, endpoints=endpoints)
    authentication = None
    if tokens is not None:
        app = authentication = Authentication(app, tokens=tokens, endpoints=endpoints)
    guard = BrowserGuard(app, hosts=hosts if tokens is None else None)

    def may_pass(scope: Scope) -> bool:
        has_right = authentication is None or authentication.may_pass(scope)
        return has_right and guard.may_pass(scope)

    date = Date()
    answered = Dated(LimitedRequests(guard, request_limits), date)
    shortcut = Shortcut(answered, endpoints=endpoints, date=date, may_pass=may_pass)

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await shortcut(scope, receive, send)
        except Exception:
            count_failure()
            raise  # to the server, which logs it

    return counted


class Shortcut:
    """Hands requests that come by the thousand to their handlers, past all other layers.

    Trying the routes one after another, and the layers round them, take as long as making a
    task and writing it. What may not pass goes the long way, where it is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        endpoints: Sequence[Endpoint],
        date: Date,
        may_pass: Callable[[Scope], bool],
    ) -> None:
        self._app = app
        self._date = date
        self._may_pass = may_pass
        self._handlers = {
            (endpoint.method, endpoint.path): endpoint.handler
            for endpoint in endpoints
            if endpoint.is_hot
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        handler = self._handlers.get((scope["method"], scope["path"]))
        if handler is None or not self._may_pass(scope):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await handler(request)
        except (Problem, PousseTachesError) as exc:
            response = await answer_problem(request, exc)
        except Exception as exc:
            response = await answer_problem(request, exc)
            response.raw_headers.append(self._date.header())
            await response(scope, receive, send)
            raise
        response.raw_headers.append(self._date.header())
        await response(scope, receive, send)


class Date:
    """The Date header (RFC 9110, 6.6.1), made once a second: the server would need a timer."""

    def __init__(self) -> None:
        self._second = 0
        self._header = (b"date", b"")

    def header(self) -> tuple[bytes, bytes]:
        """Return its name and its value at present."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._header = (b"date", formatdate(second, usegmt=True).encode())
        return self._header


class Dated:
    """Adds the Date header to the answers of an application."""

    def __init__(self, app: ASGIApp, date: Date) -> None:
        self._app = app
        self._date = date

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], self._date.header()]
            await send(message)

        await self._app(scope, receive, dated)
