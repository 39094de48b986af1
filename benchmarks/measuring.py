"""What the benchmarks share: timing, percentiles, tables, a server pinned to one core."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

SERVER_CORE, LOAD_CORE = 0, 1
PATIENCE = 20.0  # seconds


def fixed_loop() -> float:
    """Return the seconds that a loop of plain Python takes: how fast the machine is today."""
    started = time.perf_counter()
    total = 0
    for number in range(3_000_000):
        total += number & 7
    return time.perf_counter() - started


async def timed(call: Callable[[], Awaitable[object]], *, times: int) -> list[float]:
    """Return how many seconds each of several calls took."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        await call()
        found.append(time.perf_counter() - started)
    return found


def middle(seconds: Sequence[float]) -> str:
    """Return the median in milliseconds."""
    return f"{median(seconds) * 1000:.3f}"


def high(seconds: Sequence[float]) -> str:
    """Return the 95th percentile in milliseconds."""
    return f"{sorted(seconds)[int(len(seconds) * 0.95)] * 1000:.3f}"


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table as Markdown."""
    lines = [f"\n## {title}\n", " | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(str(cell) for cell in row) for row in rows]
    sys.stdout.write("\n".join([lines[0], *(f"| {line} |" for line in lines[1:]), ""]))
    sys.stdout.flush()


def cpu_seconds(process: int) -> float:
    """Return the CPU time that a process has used (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(data_dir: Path, *flags: str) -> Iterator[tuple[int, int]]:
    """Run a server on a core of its own, ourselves on another; yield its port and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    os.sched_setaffinity(0, {LOAD_CORE})
    process = subprocess.Popen(
        ["/usr/bin/taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "poussetaches",
         "serve", "--port", str(port), "--data-dir", str(data_dir), "--log-level", "warning",
         *flags],
    )  # fmt: skip
    try:
        wait_for(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").close()
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
