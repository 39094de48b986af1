"""Rate limits hold when a server is killed or stopped, and restarted."""

from __future__ import annotations

import json
import time
from collections.abc import Sized
from pathlib import Path

import pytest

from tests.acceptance.harness import Server, receiving, wait_until

BURST = 20
CONCURRENCY = 4
LIVES = 4
A_WHILE = 0.5  # seconds in which a queue with tokens starts all allowed attempts


def settled(count: Sized) -> int:
    """Return the number of deliveries once no more arrive."""
    before = -1
    while before != len(count):
        before = len(count)
        ends_at = time.monotonic() + A_WHILE
        wait_until(time.monotonic, ends_at.__lt__, "more deliveries, if there are any")
    return before


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_rate_holds_across_restarts(tmp_path: Path, how: str) -> None:
    with receiving(lambda _: 200) as receiver:
        server = Server(tmp_path / "data")
        try:
            server.start()
            limits = {"rate": "20/h", "burst": BURST, "concurrency": CONCURRENCY}
            server.request("PUT", "/v1/queues/slow", json.dumps(limits).encode())
            tasks = [{"url": receiver.url, "queue": "slow"} for _ in range(5 * BURST)]
            server.request("POST", "/v1/tasks/batch", json.dumps({"tasks": tasks}).encode())
            wait_until(lambda: len(receiver.deliveries), bool, "the first delivery")
            for _ in range(LIVES - 1):
                server.kill() if how == "killed" else server.stop()
                server.start()
                settled(receiver.deliveries)
        finally:
            server.close()
        count = len(receiver.deliveries)

    # Attempts in flight at a kill are repeated.
    most = BURST + (LIVES - 1) * CONCURRENCY if how == "killed" else BURST
    assert BURST / 2 < count <= most + 1
