"""``Desk``: pushes that a test stores."""

from __future__ import annotations

import asyncio

from poussetaches.api.endpoint import RawResponse
from poussetaches.api.push_handler import Headers, PendingPush


class Desk:
    """Pushes that wait to be stored; a test stores them."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[bytes]] = []
        self.bodies: list[bytes] = []

    def begin(self, headers: Headers, body: bytes) -> PendingPush[bytes]:
        """Take a push, whose response is its body."""
        self.bodies.append(body)
        self.waiting.append(asyncio.get_running_loop().create_future())
        return PendingPush(self.waiting[-1], lambda result: RawResponse(result, 201))

    def store(self, *numbers: int) -> None:
        """Store the pushes with these numbers."""
        for number in numbers:
            self.waiting[number].set_result(self.bodies[number])
