"""Metrics in the text format of Prometheus."""

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
from poussetaches.core.queue import total_of
from poussetaches.core.responses import QueueCounts
from poussetaches.core.task import TaskState
from poussetaches.engine.stats import Totals

PREFIX = "poussetaches_"
MAX_SERIES = 100  # queues with a series of their own; 20,000 would overload the scraper
REST = "other"  # the sum of the other queues, including one of this name

STATES = ("waiting", "running", "succeeded", "dead")


class Measurements(msgspec.Struct, frozen=True, kw_only=True):
    """The values of all metrics. The first ``queues`` get a series of their own."""

    queues: Mapping[str, QueueCounts]
    totals: Totals
    pruned: Mapping[TaskState, int]
    in_flight: int
    held_origin_count: int
    paused: bool
    store_bytes: int
    oldest_due_age: float  # seconds, 0 if no task is due
    dropped_log_lines: int


class Exposition(NamedTuple):
    """A body and its Content-Type."""

    body: bytes
    media_type: str


def expose(numbers: Measurements, *, accept: str) -> Exposition:
    """Return measurements in the format of the scraper's Accept header."""
    encode, media_type = choose_encoder(accept)
    return Exposition(encode(Collector(numbers)), media_type)


class Collector:
    """Converts measurements to the metrics of prometheus_client."""

    def __init__(self, numbers: Measurements) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        numbers, totals = self._numbers, self._numbers.totals
        yield _tasks(numbers.queues)
        yield _counter("pushed", "Tasks pushed since the start.", totals.pushed)
        yield _attempts(totals)
        yield _counter(
            "repeated_requests",
            "Requests sent again since the start, because an idle connection was closed.",
            totals.repeated,
        )
        yield _counter("died", "Tasks that died since the start.", totals.died)
        yield _pruned(numbers.pruned)
        yield _gauge("in_flight", "Attempts in flight.", numbers.in_flight)
        yield _gauge("held_origins", "Origins on hold.", numbers.held_origin_count)
        yield _gauge("paused", "Whether the server is paused.", numbers.paused)
        yield _gauge("store_bytes", "Size of the store on disk.", numbers.store_bytes)
        yield _gauge(
            "oldest_due_age_seconds",
            "How long the oldest due task has been due, 0 if no task is due.",
            numbers.oldest_due_age,
        )
        yield _counter(
            "dropped_log_lines",
            "Log lines dropped since the start because their reader was too slow.",
            numbers.dropped_log_lines,
        )
        build = InfoMetricFamily("poussetaches_build", "The server's version.")
        build.add_metric((), {"version": __version__})
        yield build


def limited(queues: Mapping[str, QueueCounts]) -> dict[str, QueueCounts]:
    """Return the counts of the first hundred queues, and the sum of the others."""
    if len(queues) <= MAX_SERIES:
        return dict(queues)
    names = [name for name in queues if name != REST][:MAX_SERIES]
    counts = {name: queues[name] for name in names}
    return {**counts, REST: total_of(queues[name] for name in queues if name not in counts)}


def _tasks(queues: Mapping[str, QueueCounts]) -> Metric:
    metric = GaugeMetricFamily(
        f"{PREFIX}tasks", "Tasks, by state and queue.", labels=("state", "queue")
    )
    for queue, counts in limited(queues).items():
        for state in STATES:
            metric.add_metric((state, queue), getattr(counts, state))
    return metric


def _attempts(totals: Totals) -> Metric:
    metric = CounterMetricFamily(
        f"{PREFIX}attempts",
        "Attempts that ended since the start; put_back ones do not count for their tasks.",
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
