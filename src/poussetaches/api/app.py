"""``build_app``: the routes of the API as one ASGI application."""

from __future__ import annotations

import time
from collections.abc import Sequence
from email.utils import formatdate

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poussetaches.api.auth import Authentication, Tokens
from poussetaches.api.endpoint import Endpoint
from poussetaches.api.problems import Problem, answer_problem
from poussetaches.core.errors import PousseTachesError


def build_app(endpoints: Sequence[Endpoint], *, tokens: Tokens | None) -> ASGIApp:
    """Return the application; without tokens everybody may do everything."""
    app = Starlette(
        routes=[endpoint.route() for endpoint in endpoints],
        exception_handlers={
            Problem: answer_problem,
            PousseTachesError: answer_problem,
            HTTPException: answer_problem,
            Exception: answer_problem,
        },
    )
    app.router.redirect_slashes = False
    if tokens is None:
        return Dated(app)
    return Dated(Authentication(app, tokens=tokens, endpoints=endpoints))


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
