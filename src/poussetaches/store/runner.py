"""Runners of a store's blocking work: in a separate thread, or in the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from poussetaches.core.errors import StoreClosed

R = TypeVar("R")


class Runner(Protocol):
    """Runs functions one after another, in the order of the calls."""

    async def run(self, work: Callable[[], R]) -> R:
        """Run a function to its end and return its result."""

    def close(self) -> None:
        """Wait for pending functions, and refuse further ones."""


class ThreadRunner:
    """Runs functions in one thread, so that waiting for the disk does not block the event loop."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[], R]) -> R:
        """Run a function; it runs to its end even if the caller is cancelled."""
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, work)
        except RuntimeError:  # the executor was shut down
            raise StoreClosed from None
        return await running

    def close(self) -> None:
        """Wait for the thread to end."""
        self._executor.shutdown(wait=True)


class InlineRunner:
    """Runs functions in the caller's thread, which makes the order of all steps predictable."""

    async def run(self, work: Callable[[], R]) -> R:
        """Run a function now."""
        return work()

    def close(self) -> None:
        """Do nothing: there is nothing to wait for."""
