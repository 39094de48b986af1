"""The journal: a line in the log for each request, except pushes, that changed something.

What somebody did by hand (a pause, 40,000 tasks sent again) can so be found later.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poussetaches.api.endpoint import Endpoint, matches_any

_READING_METHODS = frozenset({"GET", "HEAD"})

# Tasks are logged when they are tried; a line for each push would only repeat it.
_PUSHES = frozenset({"/v1/tasks", "/v1/tasks/batch"})
_PUSH_OF_THE_ORIGINAL = ("POST", "/")

log = logging.getLogger(__name__)


class Journal:
    """Notes the requests that an application carries out; those that it refuses, it does not."""

    def __init__(self, app: ASGIApp, *, endpoints: Sequence[Endpoint]) -> None:
        self._app = app
        self._passed_over = _PUSHES | {
            endpoint.path
            for endpoint in endpoints
            if endpoint.only_reads and endpoint.method not in _READING_METHODS
        }
        # Handlers report progress up to once a second: nobody's decision, and in the events.
        self._reports = [endpoint.route() for endpoint in endpoints if endpoint.has_own_token]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and note it."""
        if not self._is_noted(scope):
            await self._app(scope, receive, send)
            return

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note(scope, message["status"])
            await send(message)

        await self._app(scope, receive, noting)

    def _is_noted(self, scope: Scope) -> bool:
        method, path = scope["method"], scope["path"]
        if method in _READING_METHODS or (method, path) == _PUSH_OF_THE_ORIGINAL:
            return False
        return path not in self._passed_over and not matches_any(self._reports, scope)


def _note(scope: Scope, status: int) -> None:
    if status >= HTTPStatus.BAD_REQUEST:
        return
    client = scope.get("client")
    # Without the query: it may hold what is nobody's business.
    fields = {"method": scope["method"], "path": scope["path"], "status": status}
    log.info("change made", extra={**fields, "client": client[0] if client else "unix socket"})
