"""The work of a task, the same for all peers: nothing, or an HTTP call to one target."""

from __future__ import annotations

import os
from functools import cache

import urllib3

from benchmarks.bodies import BODY

TARGET = os.environ.get("BENCH_TARGET", "")
HEADERS = {"Content-Type": "application/json"}


@cache
def _done() -> int:
    # The benchmark counts tasks by the size of this file; each byte is appended atomically.
    return os.open(os.environ["BENCH_DONE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@cache
def _pool() -> urllib3.HTTPConnectionPool:
    return urllib3.connection_from_url(TARGET, maxsize=64)


def nothing() -> None:
    """Do nothing."""
    os.write(_done(), b".")


def call() -> None:
    """Call the target, over a connection that is kept."""
    answer = _pool().request("POST", TARGET, body=BODY, headers=HEADERS)
    assert answer.status == 200
    os.write(_done(), b".")
