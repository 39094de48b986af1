"""Numbers for Prometheus, in the text that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from poussetaches import __version__
from poussetaches.core.queue import QueueCounts, total_of
from poussetaches.core.task import TaskState
from poussetaches.engine.stats import Totals

PREFIX = "poussetaches_"
MAX_SERIES = 100  # with series of their own: one for each of 20,000 would break the scraper
REST = "other"  # the other queues together; one that is called so is among them

STATES = ("waiting", "running", "succeeded", "dead")


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """What is told; ``queues`` are in the order in which they get series of their own."""

    queues: Mapping[str, QueueCounts]
    totals: Totals
    pruned: Mapping[TaskState, int]
    in_flight: int
    held_origin_count: int
    paused: bool
    store_bytes: int
    oldest_due_age: float  # seconds, 0 when nothing is due
    dropped_log_lines: int


class Exposition(NamedTuple):
    """A body, and its Content-Type."""

    body: bytes
    media_type: str


def expose(numbers: Numbers, *, accept: str) -> Exposition:
    """Return numbers in the format that a scraper's Accept header asks for."""
    encode, media_type = choose_encoder(accept)
    return Exposition(encode(NumbersCollector(numbers)), media_type)


class NumbersCollector:
    """Hands numbers to the library as its metrics."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        numbers, totals = self._numbers, self._numbers.totals
        yield _tasks(numbers.queues)
        yield _counter("pushed", "Tasks pushed since the start.", totals.pushed)
        yield _attempts(totals)
        yield _counter("died", "Tasks that died since the start.", totals.died)
        yield _pruned(numbers.pruned)
        yield _gauge("in_flight", "Attempts on the wire.", numbers.in_flight)
        yield _gauge("held_origins", "Origins that are held.", numbers.held_origin_count)
        yield _gauge("paused", "Whether the server is paused.", numbers.paused)
        yield _gauge("store_bytes", "Room that the store takes.", numbers.store_bytes)
        yield _gauge(
            "oldest_due_age_seconds",
            "How long the oldest due task has been due, 0 when none is.",
            numbers.oldest_due_age,
        )
        yield _counter(
            "dropped_log_lines",
            "Log lines dropped since the start, because their reader was too slow.",
            numbers.dropped_log_lines,
        )
        build = InfoMetricFamily("poussetaches_build", "The server's version.")
        build.add_metric((), {"version": __version__})
        yield build


def named(queues: Mapping[str, QueueCounts]) -> dict[str, QueueCounts]:
    """Return the first hundred queues by name, and the rest added up."""
    if len(queues) <= MAX_SERIES:
        return dict(queues)
    names = [name for name in queues if name != REST][:MAX_SERIES]
    found = {name: queues[name] for name in names}
    return {**found, REST: total_of(queues[name] for name in queues if name not in found)}


def _tasks(queues: Mapping[str, QueueCounts]) -> Metric:
    metric = GaugeMetricFamily(
        f"{PREFIX}tasks", "Tasks, by state and queue.", labels=("state", "queue")
    )
    for queue, counts in named(queues).items():
        for state in STATES:
            metric.add_metric((state, queue), getattr(counts, state))
    return metric


def _attempts(totals: Totals) -> Metric:
    metric = CounterMetricFamily(
        f"{PREFIX}attempts",
        "Attempts that ended since the start; those put back did not count.",
        labels=("outcome",),
    )
    for outcome in ("succeeded", "failed", "put_back"):
        metric.add_metric((outcome,), getattr(totals, outcome))
    return metric


def _pruned(pruned: Mapping[TaskState, int]) -> Metric:
    metric = CounterMetricFamily(
        f"{PREFIX}pruned", "Ended tasks that were pruned since the start.", labels=("state",)
    )
    for state in (TaskState.SUCCEEDED, TaskState.DEAD):
        metric.add_metric((state.value,), pruned.get(state, 0))
    return metric


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}{name}", meaning, value=value)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", meaning, value=value)
