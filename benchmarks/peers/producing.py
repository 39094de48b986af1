"""Pushes to a peer on command: ``producing.py PEER KIND``, then a count on each line of stdin."""

from __future__ import annotations

import importlib
import sys
import time


def main(module: str, kind: str) -> None:
    """For each line, push this many tasks; print the start time and the duration."""
    push = importlib.import_module(f"benchmarks.peers.{module}").push
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            push(kind)
        sys.stdout.write(f"{started} {time.perf_counter() - started}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
