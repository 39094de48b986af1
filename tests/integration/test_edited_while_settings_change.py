"""A task is edited while the settings of its queue change."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from poussetaches.core.queue import Queue, QueueOverrides, QueueSettings
from poussetaches.store.runner import ThreadRunner
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender
from tests.integration.asgi import request
from tests.integration.service import Service

PATIENCE = 20.0  # seconds
NEW = Queue(name="mail", overrides=QueueOverrides(base_url="http://new.test"))


async def test_edit_leaves_no_old_settings_in_force(tmp_path: Path) -> None:
    """Settings must not be computed, and cached, in the thread that writes."""
    loop, loop_thread = asyncio.get_running_loop(), threading.current_thread()
    is_computing, is_changed = asyncio.Event(), threading.Event()

    class SlowOverrides(QueueOverrides, frozen=True, kw_only=True):
        """In another thread than the event loop's, computed until the settings change."""

        def over(self, settings: QueueSettings) -> QueueSettings:
            if threading.current_thread() is not loop_thread:
                loop.call_soon_threadsafe(is_computing.set)
                is_changed.wait(PATIENCE)
            return super().over(settings)

    service = await Service.opened(
        tmp_path / "tasks.db",
        clock=FakeClock(),
        sender=ScriptedSender(),
        random=seeded(),
        writer=ThreadRunner("store-writer"),
    )
    task = {"url": "http://app.test/", "queue": "mail", "delay": 3600}
    pushed = await request(service.app, "POST", "/v1/tasks", task)
    old = SlowOverrides(base_url="http://old.test")
    service.queues.update({"mail": Queue(name="mail", overrides=old)})

    path = f"/v1/tasks/{pushed.json['id']}"
    patching = asyncio.ensure_future(request(service.app, "PATCH", path, {"url": "/path"}))
    computing = asyncio.ensure_future(is_computing.wait())
    await asyncio.wait([patching, computing], return_when=asyncio.FIRST_COMPLETED)
    service.queues.update({"mail": NEW})
    is_changed.set()
    patched = await patching
    computing.cancel()

    assert patched.json["url"] == "/path"
    assert service.queues.settings_of("mail").base_url == "http://new.test"
    await service.close()
