"""A hand-written consumer with httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from benchmarks.bodies import BODY
from benchmarks.peers.own_list import Call, push, run
from benchmarks.peers.work import HEADERS, TARGET

__all__ = ["push"]


@asynccontextmanager
async def calling() -> AsyncIterator[Call]:
    """Open a client."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(limits=limits) as client:

        async def call() -> None:
            answer = await client.post(TARGET, content=BODY, headers=HEADERS)
            assert answer.status_code == 200

        yield call


if __name__ == "__main__":
    run(calling)
