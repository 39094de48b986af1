"""Batches whose clients are slow."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from poussetaches.api import batch
from poussetaches.api.batch import BatchRoutes
from poussetaches.api.problems import Problem
from poussetaches.api.task_builder import TaskLimits
from poussetaches.engine.engine import Engine
from poussetaches.store.sqlite import SqliteStore
from tests.factories import NOW, seeded


async def test_client_that_stalls_within_a_batch_gives_up_its_turn(
    store: SqliteStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "LONGEST_READING", 0.0)
    routes = BatchRoutes(
        store=store,
        engine=engine,
        now=lambda: NOW,
        random=seeded(),
        limits=TaskLimits(max_body=1000),
        max_batch=1000,
    )

    async def stall() -> Message:
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    for _ in range(3):
        request = Request({"type": "http", "method": "POST", "headers": []}, stall)
        with pytest.raises(Problem) as caught:
            await routes.push(request)
        assert (caught.value.status, caught.value.code) == (400, "too-slow")
