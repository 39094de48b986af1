"""How many tasks a second can be pushed in batches, over HTTP, with fsync, on one core?"""

from __future__ import annotations

import http.client
import json
import sqlite3
import tempfile
import time
from pathlib import Path

from benchmarks.filling import BODY
from benchmarks.measuring import cpu_seconds, fixed_loop, serving, show

SIZES = (1_000, 10_000)
TOTAL = 200_000


def batch_of(size: int) -> bytes:
    """Return a batch of tasks that wait, of 200 bytes each, as lines of JSON."""
    body = json.loads(BODY)
    line = {"url": "http://127.0.0.1:9/tasks/work", "json": body, "delay": 3600}
    return (json.dumps(line) + "\n").encode() * size


def pushed(size: int) -> tuple[float, float]:
    """Return how many tasks a second were pushed, by the clock and by the server's CPU time."""
    batch, rounds = batch_of(size), TOTAL // size
    headers = {"Content-Type": "application/x-ndjson"}
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,  # not in memory
        serving(Path(folder)) as (port, process),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        started, cpu = time.perf_counter(), cpu_seconds(process)
        for _ in range(rounds):
            connection.request("POST", "/v1/tasks/batch", batch, headers)
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 201, content
        seconds, used = time.perf_counter() - started, cpu_seconds(process) - cpu
        connection.close()
    return TOTAL / seconds, TOTAL / used


def bare_rows(size: int) -> float:
    """Return how many rows a second SQLite alone takes, in the store's own tables."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # not in memory
        with serving(Path(folder)):
            pass  # a server makes the tables
        connection = sqlite3.connect(Path(folder) / "tasks.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        started = time.perf_counter()
        for first in range(0, TOTAL, size):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, ((f"{first + n:032x}", BODY) for n in range(size)))
            connection.execute("COMMIT")
        seconds = time.perf_counter() - started
        connection.close()
    return TOTAL / seconds


INSERT = """
INSERT INTO tasks (
    id, lane, queue, state, priority, run_at, due_at, created_at, round, attempt_count,
    attempt_total, envelope, method, url, body_kind, body
) VALUES (?, 1, 'default', 'waiting', 0, 1, 1, 1, 1, 0, 0, 0, 'POST',
          'http://127.0.0.1:9/tasks/work', 'json', ?)
"""


def main() -> None:
    """Compare batches over HTTP with bare rows."""
    rows = []
    for size in SIZES:
        by_clock, by_cpu = pushed(size)
        bare = bare_rows(size)
        rows.append(
            [f"{size:,}", f"{by_clock:,.0f}", f"{by_cpu:,.0f}", f"{bare:,.0f}",
             f"{by_clock / bare:.0%}"]
        )  # fmt: skip
    head = ["tasks a batch", "tasks/s", "tasks/s of CPU", "bare SQLite rows/s", "of bare"]
    show(f"Pushing in batches (a fixed loop took {fixed_loop():.3f} s)", head, rows)


if __name__ == "__main__":
    main()
