"""Shared by the benchmarks: sizes, timing, percentiles, tables."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import TypeVar

T = TypeVar("T")

QUICK = "--quick" in sys.argv  # small sizes, to test the benchmarks

LOOPS = 3_000_000


def scaled(full: T, *, quick: T) -> T:
    """Return the size of a measurement, in a full or a quick run."""
    return quick if QUICK else full


def fixed_loop() -> float:
    """Return the seconds of a loop in plain Python, which show the machine's present speed."""
    return min(_loop() for _ in range(2 if QUICK else 5))


def _loop() -> float:
    started = time.perf_counter()
    total = 0
    for number in range(LOOPS):
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


def percentile(values: Sequence[float], part: float) -> float:
    """Return the smallest value that is not below the given part of them, from 0 to 1."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def middle(seconds: Sequence[float]) -> str:
    """Return the median in milliseconds."""
    return in_ms(median(seconds))


def high(seconds: Sequence[float]) -> str:
    """Return the 95th percentile in milliseconds."""
    return in_ms(percentile(seconds, 0.95))


def in_ms(seconds: float) -> str:
    """Return a time in milliseconds, with its significant digits."""
    return f"{seconds * 1000:.3f}" if seconds < 0.1 else f"{seconds * 1000:,.0f}"


def in_us(seconds: float) -> str:
    """Return a time in microseconds."""
    return f"{seconds * 1_000_000:.1f}"


def as_rate(rate: float) -> str:
    """Return a number without decimals."""
    return f"{rate:,.0f}"


def as_part(part: float) -> str:
    """Return a ratio as a percentage."""
    return f"{part:.0%}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
