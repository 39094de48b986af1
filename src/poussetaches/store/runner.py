"""Where a store's blocking work runs: in a thread of its own, or on the spot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from poussetaches.core.errors import StoreClosed

R = TypeVar("R")


class Runner(Protocol):
    """Runs pieces of work one after another, in the order they were given."""

    async def run(self, work: Callable[[], R]) -> R:
        """Run one piece of work to its end and return what it returns."""

    def close(self) -> None:
        """Let what was given end, and take nothing more."""


class ThreadRunner:
    """Runs work in one thread, so that waiting for the disk holds up nobody else."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[], R]) -> R:
        """Run one piece of work; it goes on to its end even when the caller is cancelled."""
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, work)
        except RuntimeError:  # the executor was shut down
            raise StoreClosed from None
        return await running

    def close(self) -> None:
        """Wait for the thread to end."""
        self._executor.shutdown(wait=True)


class InlineRunner:
    """Runs work on the spot: every step happens in the order of the program, as tests want it."""

    async def run(self, work: Callable[[], R]) -> R:
        """Run one piece of work now."""
        return work()

    def close(self) -> None:
        """Do nothing: there is nothing to wait for."""
