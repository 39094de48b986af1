"""``python failing_files.py KIND ERRNO PATH …``: run poussetaches with a file that fails.

``open`` makes Python's own opening of the path fail, ``stat`` its ``os.stat``. Files that SQLite
opens are not affected.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path


def fail(number: int, path: str) -> None:
    """Raise an error of the system."""
    raise OSError(number, os.strerror(number), path)


def fail_open(number: int, path: str) -> None:
    """Fail when a file is opened."""

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and str(arguments[0]) == path:
            fail(number, path)

    sys.addaudithook(hear)


def fail_stat(number: int, path: str) -> None:
    """Fail when the status of a file is read."""
    stat = os.stat

    def looked_at(file: int | str | Path, **options: object) -> os.stat_result:
        if str(file) == path:
            fail(number, path)
        return stat(file, **options)  # type: ignore[arg-type]  # passed on

    os.stat = looked_at  # type: ignore[assignment]


if __name__ == "__main__":
    kind, number, path = sys.argv[1:4]
    sys.argv[1:4] = []
    {"open": fail_open, "stat": fail_stat}[kind](int(number), path)
    runpy.run_module("poussetaches", run_name="__main__")
