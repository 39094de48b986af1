"""Calls handlers with the request's database connections, and the project's language."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import cast

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.utils import timezone, translation

from poussetaches.client.receiver import Delivery, awaited, run_to_end


def call(delivery: Delivery) -> object:
    """Call a handler from synchronous code."""
    with project_defaults():
        value = delivery.call()
        return finish(value) if inspect.isawaitable(value) else value


async def acall(delivery: Delivery) -> object:
    """Call a handler from asynchronous code: a sync one in the thread of the connections."""
    with project_defaults():
        if delivery.function.is_async:
            return await cast("Awaitable[object]", delivery.call())
        return await sync_to_async(delivery.call, thread_sensitive=True)()


@contextmanager
def project_defaults() -> Iterator[None]:
    """Reset language and time zone, which an earlier request may have set in the thread."""
    with translation.override(settings.LANGUAGE_CODE), timezone.override(None):
        yield


def finish(awaitable: Awaitable[object]) -> object:
    """Run the awaitable of an asynchronous handler, with its queries in this thread.

    In another thread, they would open a connection that is never closed.
    """
    return run_to_end(awaitable, run=async_to_sync(awaited))
