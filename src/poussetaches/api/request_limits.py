"""``RequestLimits``: limits concurrent requests, except pushes of single tasks.

A request is active until its response begins, or until it is parked: it then waits for a task to
end or for events. Active requests compete for the store, and parked ones keep a connection open,
so each kind may hold only a part of the connections; the rest are refused with 503.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poussetaches.api.auth import OPEN_PATHS
from poussetaches.api.problems import Problem, unavailable

MOST_ACTIVE = 256  # requests; the store lists tasks one request at a time, in about 20 ms
SLOT = "poussetaches.slot"  # key in the ASGI scope of an active request


class RequestLimits:
    """Counts active and parked requests; the limits are fractions of the connection limit."""

    def __init__(self, connections: int) -> None:
        self._most_active = max(1, min(MOST_ACTIVE, connections // 4))
        self._most_parked = max(1, connections // 2)
        self.active_count = 0
        self._parked_count = 0

    @contextlib.contextmanager
    def parked(self, scope: Scope) -> Iterator[None]:
        """Count a request as parked instead of active.

        Raises:
            Problem: 503, too many are parked already.
        """
        if self._parked_count >= self._most_parked:
            raise unavailable(
                "busy",
                f"{self._most_parked} requests are waiting for tasks to end or for events; "
                "retry later, or without wait",
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
            detail = f"{self._most_active} requests are being answered; retry later"
            raise unavailable("busy", detail)
        return _Slot(self)


class LimitedRequests:
    """Refuses requests over the limits; health checks are always answered."""

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

        async def send_leaving(message: Message) -> None:
            slot.leave()  # how long the response takes depends on the client
            await send(message)

        try:
            await self._app(scope, receive, send_leaving)
        finally:
            slot.leave()


class _Slot:
    """The place of one active request among those allowed."""

    def __init__(self, request_limits: RequestLimits) -> None:
        self._request_limits: RequestLimits | None = request_limits
        request_limits.active_count += 1

    def leave(self) -> None:
        """Stop counting the request as active; later calls do nothing."""
        if self._request_limits is not None:
            self._request_limits.active_count -= 1
            self._request_limits = None
