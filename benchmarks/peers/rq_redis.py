"""RQ."""

from __future__ import annotations

import os

from redis import Redis
from rq import Queue

from benchmarks.peers import work

queue = Queue("default", connection=Redis.from_url(os.environ["BENCH_BROKER"]))


def push(kind: str) -> None:
    """Push one task."""
    queue.enqueue({"nothing": work.nothing, "call": work.call}[kind], result_ttl=0)
