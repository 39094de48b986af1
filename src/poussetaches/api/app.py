"""``build_app``: the routes of the API as one ASGI application."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from random import Random

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poussetaches.api.engine_view import EngineView
from poussetaches.api.operations import Operations
from poussetaches.api.original import OriginalRoutes
from poussetaches.api.problems import Problem, answer_problem
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.moment import Moment
from poussetaches.store.base import Store


def build_app(
    *,
    store: Store,
    engine: EngineView,
    now: Callable[[], Moment],
    random: Random,
    max_body: int,
    max_request: int,
) -> ASGIApp:
    """Return the application; sizes are in bytes."""
    original = OriginalRoutes(
        store=store,
        engine=engine,
        now=now,
        random=random,
        max_body=max_body,
        max_request=max_request,
    )
    operations = Operations(store=store, engine=engine)
    app = Starlette(
        routes=[*original.routes(), *operations.routes()],
        exception_handlers={
            Problem: answer_problem,
            PousseTachesError: answer_problem,
            HTTPException: answer_problem,
            Exception: answer_problem,
        },
    )
    app.router.redirect_slashes = False
    return Dated(app)


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
