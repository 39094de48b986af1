"""Converts exceptions of a handler that would stop more than the handler.

``sys.exit()`` would end the worker or the whole service. ``StopIteration`` cannot leave a
coroutine, and some servers then hang. A ``CancelledError`` looks like the request's cancellation.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import cast

CONTAINED = (
    *(SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError),
    *(StopIteration, StopAsyncIteration),
)


class HandlerStopped(Exception):
    """A handler raised an exception that must not leave it; ``__cause__`` is that exception."""

    def __init__(self, raised: BaseException) -> None:
        super().__init__(f"{type(raised).__name__}: {raised}")
        self.raised = raised


class NothingRan(Exception):
    """A handler returned a generator, so none of its code ran."""


def call_guarded(call: Callable[[], object], *, in_test: bool) -> object:
    """Call a handler and convert its exceptions, and those of an awaitable that it returns.

    Raises:
        HandlerStopped: it raised an exception that would stop more than the handler.
        NothingRan: it returned a generator.
    """
    try:
        value = call()
    except CONTAINED as exc:
        if _is_interrupt(exc, in_test=in_test):
            raise
        raise HandlerStopped(exc) from exc
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise NothingRan("the handler returned a generator, and none of its code ran")
    if inspect.isawaitable(value):
        return _contained_await(cast("Awaitable[object]", value), in_test=in_test)
    return value


async def _contained_await(awaitable: Awaitable[object], *, in_test: bool) -> object:
    try:
        return await awaitable
    except GeneratorExit:  # the coroutine is closed
        raise
    except CONTAINED as exc:
        task = asyncio.current_task()
        if isinstance(exc, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        if _is_interrupt(exc, in_test=in_test):
            raise
        raise HandlerStopped(exc) from exc


def _is_interrupt(exc: BaseException, *, in_test: bool) -> bool:
    """Return whether an exception is a Ctrl-C: in a test, or in the main thread."""
    if not isinstance(exc, KeyboardInterrupt):
        return False
    return in_test or (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
