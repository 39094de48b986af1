"""A push is stored even if its client disconnects before the commit."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from poussetaches.server.http_server import HttpServer
from poussetaches.store.runner import InlineRunner
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.hostile.wire import push
from tests.integration.asgi import request
from tests.integration.service import Service

R = TypeVar("R")


class GatedDisk(InlineRunner):
    """Runs its work in order of arrival once ``gate`` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.has_begun = asyncio.Event()

    async def run(self, work: Callable[[], R], *, is_brief: bool = False) -> R:
        """Wait for the gate, then run the work."""
        self.has_begun.set()
        await self.gate.wait()
        return await super().run(work, is_brief=is_brief)


@pytest.mark.parametrize("is_direct", [True, False], ids=["direct", "ASGI"])
async def test_push_of_a_client_that_disconnects_is_stored(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, is_direct: bool
) -> None:
    # Paths of sockets are short: a test's own folder may be too deep.
    path = tmp_path_factory.mktemp("s") / "p"
    disk = GatedDisk()
    service = await _opened(path.with_name("tasks.db"), disk)
    pushes = service.app.pushes if is_direct else {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = HttpServer(service.app, listener, pushes=lambda: pushes)
        await server.start()
        disk.gate.clear()
        disk.has_begun.clear()

        _, writer = await asyncio.open_unix_connection(path)
        writer.write(push())
        await disk.has_begun.wait()
        writer.close()
        await writer.wait_closed()
        while server.registry.connections:
            await let_run(1)
        disk.gate.set()
        await server.stop()

    await service.close()
    service = await _opened(path.with_name("tasks.db"), disk)
    stored = (await request(service.app, "GET", "/v1/tasks")).json["tasks"]
    await service.close()
    assert len(stored) == 1
    assert caplog.records == []


async def _opened(path: Path, disk: GatedDisk) -> Service:
    return await Service.opened(
        path, clock=FakeClock(), sender=ScriptedSender(), random=seeded(), writer=disk
    )
