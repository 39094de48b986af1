"""Waiting for tasks to end."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from poussetaches.api.task_wait import TaskWaiters, wait_for_end
from poussetaches.core.task import TaskState
from poussetaches.store.base import Change, News, TaskChange
from tests.fakes import let_run

LONG = 60.0  # seconds; no test waits for it


class Caller:
    """A client that has sent its request, and may hang up."""

    def __init__(self) -> None:
        self.hangs_up = asyncio.Event()
        self.request = Request({"type": "http", "method": "GET", "headers": []}, self._receive)
        self._sent = False

    async def _receive(self) -> Message:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.hangs_up.wait()
        return {"type": "http.disconnect"}


def news(task_id: str, state: TaskState | None) -> News:
    return News(tasks=[TaskChange(task_id, "default", Change.EDITED, state)])


async def wait_for(task_watch: TaskWaiters, caller: Caller, patience: float = LONG) -> None:
    with task_watch.waiter("task") as ending:
        await wait_for_end(ending, caller.request, max_wait=patience)


@pytest.mark.parametrize("state", [TaskState.SUCCEEDED, TaskState.DEAD, None])
async def test_end_of_a_task_wakes_everybody_who_waits_for_it(state: TaskState | None) -> None:
    task_watch = TaskWaiters()
    waiting = [asyncio.ensure_future(wait_for(task_watch, Caller())) for _ in range(3)]
    await let_run()

    task_watch.committed(news("task", state))
    await let_run()

    assert [one.done() for one in waiting] == [True] * 3


@pytest.mark.parametrize(
    ("task_id", "state"), [("task", TaskState.WAITING), ("another", TaskState.DEAD)]
)
async def test_other_news_wake_nobody(task_id: str, state: TaskState) -> None:
    task_watch = TaskWaiters()
    waiting = asyncio.ensure_future(wait_for(task_watch, Caller()))
    await let_run()

    task_watch.committed(news(task_id, state))
    await let_run()

    assert not waiting.done()
    task_watch.stop()
    await waiting


async def test_wait_ends_when_the_client_hangs_up() -> None:
    caller = Caller()
    waiting = asyncio.ensure_future(wait_for(TaskWaiters(), caller))
    await let_run()

    caller.hangs_up.set()
    await let_run()

    assert waiting.done()


async def test_wait_ends_when_patience_does() -> None:
    await wait_for(TaskWaiters(), Caller(), patience=0.0)


async def test_nobody_waits_once_the_server_stops() -> None:
    task_watch = TaskWaiters()
    before = asyncio.ensure_future(wait_for(task_watch, Caller()))
    await let_run()

    task_watch.stop()
    after = asyncio.ensure_future(wait_for(task_watch, Caller()))
    await let_run()

    assert before.done()
    assert after.done()
