"""Batches of clients that are slow, or ask too much."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from poussetaches.api import batch
from poussetaches.api.batch import BATCHES, MOST_QUEUED, BatchRoutes
from poussetaches.api.problems import Problem
from poussetaches.api.pushing import Pushing
from poussetaches.core.new_task import TaskLimits
from poussetaches.engine.engine import Engine
from poussetaches.store.sqlite import SqliteStore
from tests.factories import NOW, seeded
from tests.fakes import let_run


async def test_list_far_beyond_the_limit_does_not_take_memory(
    store: SqliteStore, engine: Engine
) -> None:
    """64 MiB have room for 30 million elements, and each took some 80 bytes."""
    body = b'{"tasks":[' + b"0," * 8_000_000 + b"0]}"

    async def send() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": []}, send)
    tracemalloc.start()
    with pytest.raises(Problem) as caught:
        await batch_routes(store, engine, max_batch=len(body)).push(request)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert caught.value.errors[0].field == "tasks[0]"
    assert peak < 4 * len(body)


def as_document(tasks: list[bytes]) -> bytes:
    return b'{"tasks":[' + b",".join(tasks) + b"]}"


def as_lines(tasks: list[bytes]) -> bytes:
    return b"\n".join(tasks)


@pytest.mark.parametrize(
    ("body_of", "media_type"),
    [(as_document, b"application/json"), (as_lines, b"application/x-ndjson")],
    ids=["document", "lines"],
)
async def test_others_have_a_turn_between_large_tasks(
    store: SqliteStore,
    engine: Engine,
    body_of: Callable[[list[bytes]], bytes],
    media_type: bytes,
) -> None:
    """60 of 1 MB with brackets and escapes held everything else up for two seconds."""
    count = 60
    text = "[{" * 50_000
    task = msgspec.json.encode({"url": "http://app.test/", "json": [text, text]})
    body = body_of([task] * count)
    pieces = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    turns = 0

    async def send() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    def turn() -> None:
        nonlocal turns
        turns += 1
        if not pushing.done():
            loop.call_soon(turn)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", media_type)]}
    routes = batch_routes(store, engine, max_batch=len(body), max_body=len(task))
    loop = asyncio.get_running_loop()
    pushing = asyncio.create_task(routes.push(Request(scope, send)))
    loop.call_soon(turn)
    answer = await pushing

    assert answer.status_code == 201
    assert turns >= count


def batch_routes(
    store: SqliteStore, engine: Engine, *, max_batch: int, max_body: int = 1000
) -> BatchRoutes:
    pushing = Pushing(
        store=store,
        engine=engine,
        now=lambda: NOW,
        random=seeded(),
        limits=TaskLimits(max_body=max_body),
    )
    return BatchRoutes(pushing, max_request=2 * max_body, max_batch=max_batch)


async def test_batch_is_refused_while_too_many_wait_for_their_turn(
    store: SqliteStore, engine: Engine
) -> None:
    """Each holds what has come of its body."""
    routes = batch_routes(store, engine, max_batch=1000)
    goes_on = asyncio.Event()

    async def send_later() -> Message:
        await goes_on.wait()
        body = b'{"tasks":[]}'
        return {"type": "http.request", "body": body, "more_body": False}

    def push() -> asyncio.Task[Response]:
        request = Request({"type": "http", "method": "POST", "headers": []}, send_later)
        return asyncio.create_task(routes.push(request))

    pushes = [push() for _ in range(BATCHES + MOST_QUEUED)]
    await let_run()
    with pytest.raises(Problem) as caught:
        await push()
    goes_on.set()
    statuses = [(await pushed).status_code for pushed in [*pushes, push()]]

    assert (caught.value.status, caught.value.code) == (503, "busy")
    assert statuses == [201] * (BATCHES + MOST_QUEUED + 1)


async def test_client_that_stalls_within_a_batch_gives_up_its_turn(
    store: SqliteStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "LONGEST_READING", 0.0)
    routes = batch_routes(store, engine, max_batch=1000)

    async def stall() -> Message:
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    for _ in range(3):
        request = Request({"type": "http", "method": "POST", "headers": []}, stall)
        with pytest.raises(Problem) as caught:
            await routes.push(request)
        assert (caught.value.status, caught.value.code) == (400, "too-slow")
