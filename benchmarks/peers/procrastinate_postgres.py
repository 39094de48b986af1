"""Procrastinate with PostgreSQL."""

from __future__ import annotations

import os
from functools import cache

from procrastinate import App, PsycopgConnector
from pyreqwest.client import Client, ClientBuilder

from benchmarks.bodies import BODY
from benchmarks.peers import work

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_BROKER"]))


@cache
def client() -> Client:
    """Return the client that all calls share."""
    return ClientBuilder().no_proxy().build()


async def do_nothing() -> None:
    """Do nothing."""
    work.nothing()


async def do_call() -> None:
    """Call the target, over a connection that is kept."""
    request = client().post(work.TARGET).headers(work.HEADERS).body_bytes(BODY)
    assert (await request.build().send()).status == 200
    work.nothing()


nothing = app.task(name="nothing")(do_nothing)
call = app.task(name="call")(do_call)


@cache
def connected() -> App:
    """Return the application, ready to push."""
    app.open()
    return app


def push(kind: str) -> None:
    """Push one task."""
    connected()
    {"nothing": nothing, "call": call}[kind].defer()
