"""Pushes are refused if more are waiting than the disk can write."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from poussetaches.store.group_commit import MAX_PENDING_SIZE
from poussetaches.store.runner import InlineRunner
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.integration.asgi import Answered, request
from tests.integration.service import Service

R = TypeVar("R")

LARGE = "x" * (1000 * 1000)  # of a body; under the limit of one
ENCODED = base64.b64encode(LARGE.encode()).decode()


class SlowDisk(InlineRunner):
    """Runs its work in order of arrival while ``free`` is set."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Wait until ``free`` is set, then run the work."""
        await self.free.wait()
        return work()


@pytest.mark.parametrize(
    ("path", "task"),
    [
        ("/v1/tasks", {"url": "http://app.test/", "text": LARGE, "delay": 3600}),
        ("/", {"url": "http://app.test/", "payload": ENCODED, "delay": 60}),
    ],
)
async def test_pushes_that_pile_up_are_refused_until_the_disk_has_caught_up(
    tmp_path: Path, path: str, task: dict[str, object]
) -> None:
    disk = SlowDisk()
    service = await Service.opened(
        tmp_path / "tasks.db",
        clock=FakeClock(),
        sender=ScriptedSender(),
        random=seeded(),
        writer=disk,
    )

    def push() -> asyncio.Task[Answered]:
        return asyncio.create_task(request(service.app, "POST", path, task))

    disk.free.clear()
    waiting = [push() for _ in range(MAX_PENDING_SIZE // len(LARGE) + 10)]
    await let_run()
    refused = [push.result() for push in waiting if push.done()]
    disk.free.set()
    kept = [(await push).status for push in waiting].count(201)
    afterwards = await push()
    await service.close()

    assert {(answer.status, answer.headers["retry-after"]) for answer in refused} == {(503, "1")}
    assert {answer.json["type"] for answer in refused} == {"urn:poussetaches:problem:busy"}
    assert kept == len(waiting) - len(refused)
    assert kept * len(LARGE) <= MAX_PENDING_SIZE + len(LARGE)
    assert afterwards.status == 201
