"""Celery with Redis."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks.peers import work

app = Celery("benchmark", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)

nothing = app.task(name="nothing")(work.nothing)
call = app.task(name="call")(work.call)


def push(kind: str) -> None:
    """Push one task."""
    {"nothing": nothing, "call": call}[kind].delay()
