"""``build_app``: the routes of the API as one ASGI application."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poussetaches.api.auth import Authentication, Tokens
from poussetaches.api.endpoint import Endpoint
from poussetaches.api.journal import Journal
from poussetaches.api.problems import Problem, answer_problem
from poussetaches.core.errors import PousseTachesError


def build_app(endpoints: Sequence[Endpoint], *, tokens: Tokens | None) -> ASGIApp:
    """Return the application; without tokens everybody may do everything."""
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
    app = Journal(Shortcut(routes, endpoints=endpoints), endpoints=endpoints)
    if tokens is None:
        return Dated(app)
    return Dated(Authentication(app, tokens=tokens, endpoints=endpoints))


class Shortcut:
    """Hands requests that come by the thousand to their handlers, past Starlette's router.

    Trying the routes one after another, and three layers round them, take as long as making a
    task and writing it.
    """

    def __init__(self, app: ASGIApp, *, endpoints: Sequence[Endpoint]) -> None:
        self._app = app
        self._handlers = {
            (endpoint.method, endpoint.path): endpoint.handler
            for endpoint in endpoints
            if endpoint.is_hot
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        handler = self._handlers.get((scope["method"], scope["path"]))
        if handler is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await handler(request)
        except (Problem, PousseTachesError) as exc:
            response = await answer_problem(request, exc)
        except Exception as exc:
            await (await answer_problem(request, exc))(scope, receive, send)
            raise  # to the server, which logs it
        await response(scope, receive, send)


class Dated:
    """Adds the Date header (RFC 9110, 6.6.1): the server would need a timer for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._second = 0
        self._date = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", self._now())]
            await send(message)

        await self._app(scope, receive, dated)

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode()
        return self._date
