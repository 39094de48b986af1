"""How both clients make a request: with a timeout, and again after a failure that may pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from poussetaches.client.durations import Seconds, in_seconds
from poussetaches.client.effort import Effort
from poussetaches.client.errors import NoAnswer, Refused
from poussetaches.client.installation import warn_of_original
from poussetaches.client.pushing import key_maker
from poussetaches.client.transport import AsyncTransport
from poussetaches.client.wire import Request

T = TypeVar("T")


class Caller:
    """Makes requests through a transport; the methods of the clients build on it."""

    def __init__(
        self,
        transport: AsyncTransport,
        *,
        timeout: Seconds,
        push_timeout: Seconds,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        entropy: Callable[[int], bytes],
    ) -> None:
        warn_of_original()
        self._transport = transport
        self._timeout = in_seconds(timeout)
        self.push_timeout = in_seconds(push_timeout)
        self._monotonic = monotonic
        self._sleep = sleep
        self._new_key = key_maker(entropy)

    async def _send(
        self,
        request: Request[T],
        timeout: float | None = None,  # noqa: ASYNC109  # of the call
    ) -> T:
        seconds = max(self._timeout, request.patience) if timeout is None else timeout
        return request.read(await self._transport.send(request.call, timeout=seconds))

    async def _send_until_done(self, request: Request[T], seconds: float) -> T:
        """Repeat a request for so many seconds while its errors may pass."""
        effort = Effort(seconds, monotonic=self._monotonic)
        while True:
            try:
                return await self._send(request, effort.timeout)
            except (NoAnswer, Refused) as exc:
                await self._sleep(effort.pause_after(exc))
