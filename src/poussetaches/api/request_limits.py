"""``RequestLimits``: how many requests are answered at once, pushes of single tasks aside.

A request is active until its answer begins, or until it is parked: then it only waits for
something to happen. Each holds a connection, and an active one makes others wait for the store,
so that more than a part of the connections may hold are refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poussetaches.api.auth import OPEN_PATHS
from poussetaches.api.problems import RETRY_AFTER, Problem

MOST_ACTIVE = 256  # requests; a long list takes the store some 20 ms, one after the other
SLOT = "poussetaches.slot"  # in the scope of an active request


class RequestLimits:
    """Counts the requests that are answered, as a part of the server's connections."""

    def __init__(self, connections: int) -> None:
        self._most_active = max(1, min(MOST_ACTIVE, connections // 4))
        self._most_parked = max(1, connections // 2)
        self.active_count = 0
        self._parked_count = 0

    @contextlib.contextmanager
    def parked(self, scope: Scope) -> Iterator[None]:
        """Count a request as parked, and no longer as active.

        Raises:
            Problem: 503, too many are parked already.
        """
        if self._parked_count >= self._most_parked:
            raise _busy(
                f"{self._most_parked} requests are waiting for tasks to end or for events; "
                "retry later, or ask without wait"
            )
        slot = scope.get(SLOT)
        if slot is not None:
            slot.leave()
        self._parked_count += 1
        try:
            yield
        finally:
            self._parked_count -= 1

    def active(self) -> _Slot:
        """Count a request as active.

        Raises:
            Problem: 503, too many are active already.
        """
        if self.active_count >= self._most_active:
            raise _busy(f"{self._most_active} requests are being answered; retry later")
        return _Slot(self)


class LimitedRequests:
    """Answers no more requests at once than the limits allow; health checks always."""

    def __init__(self, app: ASGIApp, request_limits: RequestLimits) -> None:
        self._app = app
        self._request_limits = request_limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            slot = self._request_limits.active()
        except Problem as exc:
            await exc.response()(scope, receive, send)
            return
        scope[SLOT] = slot

        async def leaving(message: Message) -> None:
            slot.leave()  # how long the answer takes is up to the client
            await send(message)

        try:
            await self._app(scope, receive, leaving)
        finally:
            slot.leave()


class _Slot:
    """What an active request holds."""

    def __init__(self, request_limits: RequestLimits) -> None:
        self._request_limits: RequestLimits | None = request_limits
        request_limits.active_count += 1

    def leave(self) -> None:
        """Be active no longer."""
        if self._request_limits is not None:
            self._request_limits.active_count -= 1
            self._request_limits = None


def _busy(detail: str) -> Problem:
    headers = {"Retry-After": str(RETRY_AFTER)}
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail, headers=headers)
