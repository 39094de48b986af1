"""The sidecar, called as by an application: one request over a persistent connection."""

from __future__ import annotations

import os
from functools import cache

import urllib3

from benchmarks.bodies import push_of
from benchmarks.peers import work

TASK = push_of(work.TARGET)


@cache
def _pool() -> urllib3.HTTPConnectionPool:
    return urllib3.connection_from_url(os.environ["BENCH_BROKER"])


def push(kind: str) -> None:
    """Push one task, which is always a call."""
    assert kind == "call"
    answer = _pool().request("POST", "/v1/tasks", body=TASK, headers=work.HEADERS)
    assert answer.status == 201
