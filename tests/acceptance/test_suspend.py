"""A server that is suspended for a while, as with its machine, and resumes."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.harness import Delivery, Server, receiving, serving, wait_until

SOON = 2.0  # seconds
LIMIT = 1.5  # seconds that an attempt may take


def push(server: Server, url: str, **fields: object) -> str:
    answer = server.request("POST", "/v1/tasks", json.dumps({"url": url, **fields}).encode())
    assert answer.status == 201, answer
    id: str = answer.json["id"]
    return id


def test_suspended_server_soon_delivers_tasks_that_fell_due_once(
    tmp_path: Path,
) -> None:
    opened = threading.Event()

    def answer(delivery: Delivery) -> int:
        if delivery.path == "/held":
            opened.wait()
        return 200

    with receiving(answer) as receiver, serving(tmp_path / "data") as server:
        held = push(server, f"{receiver.url}/held")
        delayed = push(server, f"{receiver.url}/delayed", delay=0.5)
        later = push(server, f"{receiver.url}/later", delay=2.5)
        due_at = {delayed: time.time() + 0.4, later: time.time() + 2.4}
        wait_until(lambda: len(receiver.deliveries), bool, "an attempt to be on the wire")

        server.signal(signal.SIGSTOP)
        wait_until(time.time, (due_at[delayed] + 1).__lt__, "the delay to pass")
        opened.set()
        while_suspended = len(receiver.deliveries)
        resumed_at = time.time()
        server.signal(signal.SIGCONT)
        wait_until(
            lambda: [
                server.request("GET", f"/v1/tasks/{id}").json["state"]
                for id in (held, delayed, later)
            ],
            (["succeeded"] * 3).__eq__,
            "all to succeed",
        )
        healthy = server.request("GET", "/healthz").status

    at = {delivery.task_id: delivery.at for delivery in receiver.deliveries}
    assert (while_suspended, healthy) == (1, 200)
    assert Counter(each.task_id for each in receiver.deliveries) == {held: 1, delayed: 1, later: 1}
    assert resumed_at < at[delayed] < resumed_at + SOON
    assert due_at[later] < at[later] < max(due_at[later], resumed_at) + SOON


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param([], id="any target"),
        # The server resolves the name, and connects to a checked address.
        pytest.param(
            ["--allow-target", "127.0.0.0/8", "--allow-target", "[::1]"],
            id="target allowed by its address",
        ),
    ],
)
def test_answer_that_arrived_while_the_server_was_suspended_counts(
    tmp_path: Path, flags: list[str]
) -> None:
    opened = threading.Event()

    def answer(_: Delivery) -> int:
        opened.wait()
        return 200

    with receiving(answer) as receiver, serving(tmp_path / "data", *flags) as server:
        url = receiver.url.replace("127.0.0.1", "localhost")
        id = push(server, f"{url}/held", timeout=LIMIT)
        wait_until(lambda: len(receiver.deliveries), bool, "an attempt to be on the wire")

        server.signal(signal.SIGSTOP)
        opened.set()
        wait_until(time.time, (time.time() + 2 * LIMIT).__lt__, "the attempt's limit to pass")
        server.signal(signal.SIGCONT)
        found = wait_until(
            lambda: server.request("GET", f"/v1/tasks/{id}").json,
            lambda task: task["state"] == "succeeded",
            "it to succeed",
        )

    assert len(receiver.deliveries) == found["attempt_count"] == 1
