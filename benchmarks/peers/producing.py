"""Pushes to a peer when it is told to: ``producing.py PEER KIND``, then a count on each line."""

from __future__ import annotations

import importlib
import sys
import time


def main(module: str, kind: str) -> None:
    """Push as many tasks as each line says, and answer when it began and how long it took."""
    push = importlib.import_module(f"benchmarks.peers.{module}").push
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            push(kind)
        sys.stdout.write(f"{started} {time.perf_counter() - started}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
