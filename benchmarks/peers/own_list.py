"""A hand-written consumer: a Redis list, and coroutines that take a task and call."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import cache

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from benchmarks.peers import work

LIST = "tasks"
Call = Callable[[], Awaitable[None]]


@cache
def _redis() -> Redis:
    return Redis.from_url(os.environ["BENCH_BROKER"])


def push(kind: str) -> None:
    """Push one task."""
    _redis().lpush(LIST, kind)


def run(calling: Callable[[], AbstractAsyncContextManager[Call]]) -> None:
    """Work until the process is terminated; ``calling`` opens an HTTP client."""
    asyncio.run(_run(calling, int(sys.argv[1])))


async def _run(calling: Callable[[], AbstractAsyncContextManager[Call]], count: int) -> None:
    async with calling() as call, AsyncRedis.from_url(os.environ["BENCH_BROKER"]) as redis:
        await asyncio.gather(*(_work(redis, call) for _ in range(count)))


async def _work(redis: AsyncRedis, call: Call) -> None:
    while True:
        _, kind = await redis.brpop([LIST])
        if kind == b"call":
            await call()
        work.nothing()  # counts the task
