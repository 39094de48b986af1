"""How handlers are called: with the request's database connections, and nobody's language."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import cast

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.utils import timezone, translation

from poussetaches.client.receiver import Delivery, run_to_end


def call(delivery: Delivery) -> object:
    """Call a handler from synchronous code."""
    with project_defaults():
        value = delivery.call()
        return finish(value) if inspect.isawaitable(value) else value


async def acall(delivery: Delivery) -> object:
    """Call a handler from asynchronous code: a synchronous one where the connections are."""
    with project_defaults():
        if delivery.function.is_async:
            return await cast("Awaitable[object]", delivery.call())
        return await sync_to_async(delivery.call, thread_sensitive=True)()


@contextmanager
def project_defaults() -> Iterator[None]:
    """Put language and time zone back, which an earlier request has left in its thread."""
    with translation.override(settings.LANGUAGE_CODE), timezone.override(None):
        yield


def finish(awaitable: Awaitable[object]) -> object:
    """Run what an asynchronous handler returned, so that its queries come back to this thread.

    They would be made on a connection of another thread else, which nobody closes.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return async_to_sync(_awaited)(awaitable)
    return run_to_end(awaitable)


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable
