"""Dramatiq with Redis."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers import work

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_BROKER"]))

nothing = dramatiq.actor(work.nothing)
call = dramatiq.actor(work.call)


def push(kind: str) -> None:
    """Push one task."""
    {"nothing": nothing, "call": call}[kind].send()
