"""Huey with SQLite."""

from __future__ import annotations

import os

from huey import SqliteHuey

from benchmarks.peers import work

huey = SqliteHuey("benchmark", filename=os.environ["BENCH_BROKER"], results=False, fsync=False)

nothing = huey.task(name="nothing")(work.nothing)
call = huey.task(name="call")(work.call)


def push(kind: str) -> None:
    """Push one task."""
    {"nothing": nothing, "call": call}[kind]()
