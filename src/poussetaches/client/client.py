"""Clients of the server's API: ``Client`` blocks, ``AsyncClient`` is awaited.

Their methods are written once; ``dual_method`` gives them to both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Self

from poussetaches.client.argument_types import checked
from poussetaches.client.dual_method import (
    Asynchronous,
    Blocking,
    BlockingTransport,
    blocking_sleep,
    dual_method,
)
from poussetaches.client.durations import Seconds
from poussetaches.client.queue_methods import QueueMethods
from poussetaches.client.schedule_methods import ScheduleMethods
from poussetaches.client.server_methods import ServerMethods
from poussetaches.client.task_methods import TaskMethods
from poussetaches.client.transport import (
    AsyncHttpTransport,
    AsyncTransport,
    HttpTransport,
    Transport,
)


async def _async_sleep(seconds: float) -> None:
    import asyncio  # noqa: PLC0415  # 50 ms, which blocking applications do not pay

    await asyncio.sleep(seconds)


class _Methods(TaskMethods, QueueMethods, ScheduleMethods, ServerMethods):
    """All methods of both clients."""

    @dual_method
    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


class Client(_Methods, Blocking):
    """A blocking client. Threads may share it, and it may be used on both sides of a fork.

    If ``url`` or ``token`` is None, the first call reads it from ``POUSSETACHES_URL`` or
    ``POUSSETACHES_API_TOKEN`` (or ``…_FILE``). A call takes at most ``timeout`` seconds, a push
    at most ``push_timeout``.

    Every method raises ``NoAnswer`` if the server does not respond, and ``Refused`` or one of
    its subclasses if it responds with a problem.
    """

    @checked
    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: Seconds = 10.0,
        push_timeout: Seconds = 2.0,
        transport: Transport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        used = HttpTransport(url, token) if transport is None else transport
        super().__init__(
            BlockingTransport(used),
            timeout=timeout,
            push_timeout=push_timeout,
            monotonic=monotonic,
            sleep=blocking_sleep(sleep),
            entropy=entropy,
        )
        self._http = used if isinstance(used, HttpTransport) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str | None:
        """The server's URL without credentials; None if a transport was given."""
        return None if self._http is None else self._http.url


class AsyncClient(_Methods, Asynchronous):
    """``Client`` for asynchronous code: its methods are awaited.

    Any event loop may use it, on both sides of a fork. ``events``, ``list`` and
    ``schedule_runs`` are iterated with ``async for``.
    """

    @checked
    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: Seconds = 10.0,
        push_timeout: Seconds = 2.0,
        transport: AsyncTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = _async_sleep,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__(
            AsyncHttpTransport(url, token) if transport is None else transport,
            timeout=timeout,
            push_timeout=push_timeout,
            monotonic=monotonic,
            sleep=sleep,
            entropy=entropy,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
