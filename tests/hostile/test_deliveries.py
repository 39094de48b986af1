"""Misbehaving receivers delay no other receiver, and do not increase memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.acceptance.harness import Server, free_port, receiving, serving, wait_until
from tests.effort import LONG
from tests.hostile.receivers import (
    PIECE,
    Handler,
    answers,
    dribbles,
    misbehaving,
    repeats,
    silent,
)
from tests.integration.v1 import Client

OK = b"HTTP/1.1 200 OK\r\n"
TASKS = 400 if LONG else 25  # for each receiver
ATTEMPTS = 3
BAD: dict[str, Handler] = {
    "silent": silent,
    "dribbles": dribbles(OK + b"Content-Length: 60000\r\n\r\n"),
    "head-without-an-end": repeats(OK + b"X: ", PIECE),
    "lies": answers(OK + b"Content-Length: 9\r\n\r\nshort"),
    "hangs-up": answers(b""),
    "endless-error": repeats(b"HTTP/1.1 500 No\r\n\r\n", PIECE),
}
GROWTH = 96 << 20  # bytes; kept answers of 64 KiB each, and the allocator's overhead


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with serving(tmp_path / "data") as server:
        yield Client(server)


def push_many(client: Client, count: int, **fields: object) -> None:
    answer = client.post("/v1/tasks/batch", tasks=[fields] * count)
    assert answer.status == 201, answer


def wait_for(client: Client, queue: str, state: str, count: int) -> None:
    """Wait until a queue has this many tasks in a state."""

    def counted() -> int:
        found: int = client.get(f"/v1/queues/{queue}").json["counts"][state]
        return found

    wait_until(counted, lambda found: found == count, f"{state} tasks of {queue}")


def metric(server: Server, name: str) -> float:
    """Return the sum of a metric over its labels."""
    told = server.request("GET", "/metrics").body.decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", told, re.M))


async def test_misbehaving_receivers_do_not_affect_others_or_memory(client: Client) -> None:
    retry = {"max_attempts": ATTEMPTS, "min_backoff": 0.1, "max_backoff": 0.1, "jitter": 0}
    async with AsyncExitStack() as stack:
        addresses = {
            name: await stack.enter_async_context(misbehaving(handler))
            for name, handler in BAD.items()
        }
        with receiving() as healthy:
            before = await asyncio.to_thread(client.server.memory)
            for name, address in addresses.items():
                settings = {"concurrency": 30, "timeout": 0.3, "retry": retry}
                put = await asyncio.to_thread(_put_queue, client, name, settings)
                assert put == 201
                url = f"http://{address}/"
                await asyncio.to_thread(push_many, client, TASKS, queue=name, url=url)
            await asyncio.to_thread(
                push_many, client, 50, queue="healthy", url=f"{healthy.url}/run"
            )

            await asyncio.to_thread(wait_for, client, "healthy", "succeeded", 50)
            for name in BAD:
                await asyncio.to_thread(wait_for, client, name, "dead", TASKS)

        page = await asyncio.to_thread(client.get, "/v1/tasks?state=dead&limit=1000")
        after = await asyncio.to_thread(client.server.memory)

    tasks = page.json["tasks"]
    assert {task["attempt_count"] for task in tasks} == {ATTEMPTS}
    assert all(task["last_error"] or task["last_status"] == 500 for task in tasks)
    assert after - before < GROWTH
    assert client.server.logged("Traceback") == []


def _put_queue(client: Client, name: str, settings: dict[str, object]) -> int:
    return client.put(f"/v1/queues/{name}", **settings).status


def test_thousands_of_tasks_of_an_unreachable_origin_make_few_attempts(client: Client) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with receiving() as healthy:
        push_many(client, 10_000, url=f"{nobody}/run")
        push_many(client, 50, url=f"{healthy.url}/run")

        wait_for(client, "default", "succeeded", 50)

        counts = client.get("/v1/queues/default").json["counts"]
        assert (counts["waiting"], counts["dead"], counts["failing"]) == (10_000, 0, 0)
        [task] = client.get(f"/v1/tasks?url={nobody}&limit=1").json["tasks"]
        assert task["attempt_count"] == 0
        assert len(client.get("/v1/stats").json["held_origins"]) == 1
        assert 50 <= metric(client.server, "poussetaches_attempts_total") < 100
