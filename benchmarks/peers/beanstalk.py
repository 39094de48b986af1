"""beanstalkd, which has no workers of its own: ours reserve, work and delete."""

from __future__ import annotations

import os
import sys
from functools import cache

import greenstalk

from benchmarks.peers import work

TASKS = {"nothing": work.nothing, "call": work.call}


@cache
def client() -> greenstalk.Client:
    """Return a connection of this process."""
    host, _, port = os.environ["BENCH_BROKER"].partition(":")
    return greenstalk.Client((host, int(port)))


def push(kind: str) -> None:
    """Push one task."""
    client().put(kind)


def run() -> None:
    """Work until the process is terminated."""
    while True:
        job = client().reserve()
        TASKS[job.body]()
        client().delete(job)


if __name__ == "__main__":
    for _ in range(int(sys.argv[1]) - 1):
        if os.fork() == 0:
            break
    run()
