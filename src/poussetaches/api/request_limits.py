"""``RequestLimits``: limits concurrent requests, except pushes of single tasks and health checks.

A request is active until its response begins, or until it is parked to wait for a task to end or
for events. Active requests compete for the store, and parked ones keep a connection open, so each
kind may use only a part of the connections. The rest are refused with 503.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from poussetaches.api.problems import Problem, unavailable
from poussetaches.api.router import Resource

MAX_ACTIVE = 256  # requests; the store lists tasks one request at a time, in about 20 ms
SLOT = "poussetaches.slot"  # key in the ASGI scope of an active request


class RequestLimits:
    """Counts active and parked requests. Their limits are fractions of the connection limit."""

    def __init__(self, connections: int) -> None:
        self._most_active = max(1, min(MAX_ACTIVE, connections // 4))
        self._most_parked = max(1, connections // 2)
        self.active_count = 0
        self._parked_count = 0

    @contextlib.contextmanager
    def parked(self, scope: Mapping[str, Any]) -> Iterator[None]:
        """Count a request as parked instead of active.

        Raises:
            Problem: 503, too many are parked already.
        """
        if self._parked_count >= self._most_parked:
            raise unavailable(
                "busy",
                f"{self._most_parked} requests are already waiting for tasks or events, which "
                "is the maximum; retry later, or leave out the parameter wait",
            )
        slot = scope.get(SLOT)
        if slot is not None:
            slot.leave()
        self._parked_count += 1
        try:
            yield
        finally:
            self._parked_count -= 1

    def problem(self, resource: Resource) -> Problem | None:
        """Return the 503 of a request that exceeds the limit."""
        if not resource.is_counted or self.active_count < self._most_active:
            return None
        detail = (
            f"{self._most_active} requests are already being processed, the maximum; retry later"
        )
        return unavailable("busy", detail)

    def enter(self) -> Slot:
        """Count a request as active, until it leaves."""
        return Slot(self)


class Slot:
    """The slot of one active request."""

    def __init__(self, request_limits: RequestLimits) -> None:
        self._request_limits: RequestLimits | None = request_limits
        request_limits.active_count += 1

    def leave(self) -> None:
        """Stop counting the request as active; later calls do nothing."""
        if self._request_limits is not None:
            self._request_limits.active_count -= 1
            self._request_limits = None
