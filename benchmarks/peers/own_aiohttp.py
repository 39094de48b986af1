"""A hand-written consumer with aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from benchmarks.bodies import BODY
from benchmarks.peers.own_list import Call, push, run
from benchmarks.peers.work import HEADERS, TARGET

__all__ = ["push"]


@asynccontextmanager
async def calling() -> AsyncIterator[Call]:
    """Open a session."""
    async with aiohttp.ClientSession() as session:

        async def call() -> None:
            async with session.post(TARGET, data=BODY, headers=HEADERS) as answer:
                assert answer.status == 200
                await answer.read()

        yield call


if __name__ == "__main__":
    run(calling)
