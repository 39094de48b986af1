"""The goals: the figures of a run compared with their targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.measuring import as_part, as_rate, in_ms, in_us

ALLOWED_SLOWER = 1.2  # times, above which the report mentions it

# The figures of the bare parts on the machine of the goals, with the fixed loop in the same run.
# Ratios to the loop are compared, because a slower machine is slower in both.
REFERENCE_LOOP = 0.070  # seconds
REFERENCES = {
    "bare_server": ("bare uvicorn", 41_000.0),
    "bare_client": ("bare pyreqwest", 42_700.0),
    "bare_added": ("bare rows in commits of 64", 85_000.0),
    "bare_commits": ("commits of one row", 7_000.0),
}

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Goal:
    """The goal of one figure."""

    question: str
    wanted: str
    figure: str
    least: float
    shown: Callable[[float], str]
    is_most: bool = False  # the target is a maximum

    def met(self, found: float) -> bool:
        """Return whether a figure meets the goal."""
        return found <= self.least if self.is_most else found >= self.least

    def row(self, figures: Figures) -> list[str]:
        """Return it as a table's row."""
        found = figures.get(self.figure)
        if found is None:
            return [self.question, self.wanted, "not measured", ""]
        return [self.question, self.wanted, self.shown(found), "yes" if self.met(found) else "no"]


def _times(found: float) -> str:
    return f"{found:.1f} times"


def _us(found: float) -> str:
    return f"{in_us(found)} µs"


def _count(found: float) -> str:
    return f"{found:.0f}"


def _mb(found: float) -> str:
    return f"{found:.0f} MB"


def _ms(found: float) -> str:
    return f"{in_ms(found)} ms"


def _s(found: float) -> str:
    return f"{found:.2f} s"


GOALS = (
    Goal("push one by one, CPU time", "33 µs", "push_cpu", 33e-6, _us, is_most=True),
    Goal("the same, rate", "60 % of bare uvicorn", "push_of_uvicorn", 0.6, as_part),
    Goal("the same, rate", "20 % of the bare protocol", "push_of_limit", 0.2, as_part),
    Goal("push in batches of 1,000", "70 % of bare rows", "batch_1000_of_limit", 0.7, as_part),
    Goal("push in batches of 10,000", "70 % of bare rows", "batch_10000_of_limit", 0.7, as_part),
    Goal("drain, CPU time", "38 µs", "drain_cpu", 38e-6, _us, is_most=True),
    Goal("the same, rate", "70 % of bare pyreqwest", "drain_of_pyreqwest", 0.7, as_part),
    Goal("push, deliver and record at once, CPU time", "75 µs", "sustained_cpu", 75e-6, _us,
         is_most=True),
    Goal("the same, beside Celery with Redis", "12 times", "times_celery", 12, _times),
    Goal("the same, beside beanstalkd", "2 times", "times_beanstalkd", 2, _times),
    Goal("the same, beside Huey with tasks that do nothing", "1.3 times", "times_huey_nothing",
         1.3, _times),
    Goal("lone task on an idle server, median", "one fsync and 0.6 ms",
         "latency_idle_over_commit", 0.0006, _ms, is_most=True),
    Goal("p99 at 50 % load", "8 ms", "latency_50_p99", 0.008, _ms, is_most=True),
    Goal("p99 at 90 % of the paced capacity", "100 ms", "latency_90_p99", 0.1, _ms, is_most=True),
    Goal("push rate with the largest backlog", "90 % of that with none", "backlog_push_kept", 0.9,
         as_part),
    Goal("memory, idle", "50 MB", "idle_memory", 50, _mb, is_most=True),
    Goal("memory, largest backlog", "90 MB", "backlog_memory", 90, _mb, is_most=True),
    Goal("first answer, largest backlog", "0.25 s", "backlog_first_answer", 0.25, _s,
         is_most=True),
    Goal("first delivery, largest backlog", "2 s", "backlog_first_delivery", 2, _s, is_most=True),
    Goal("importing the client", "50 ms", "client_import", 0.050, _ms, is_most=True),
    Goal("100 queues, push", "90 % of one queue", "queues_push_kept_100", 0.9, as_part),
    Goal("100 queues, drain", "85 % of one queue", "queues_drain_kept_100", 0.85, as_part),
    Goal("most queues, push", "90 % of one queue", "queues_push_kept", 0.9, as_part),
    Goal("most queues, drain", "85 % of one queue", "queues_drain_kept", 0.85, as_part),
    Goal("one origin of ten hangs, drain", "95 % of the others' rate", "origins_drain_kept", 0.95,
         as_part),
    Goal("one origin of ten hangs, at a rate", "95 % of the others' rate", "origins_paced_kept",
         0.95, as_part),
    Goal("attempts lost to connections that applications close", "0", "lost_to_keep_alive", 0,
         _count, is_most=True),
    Goal("attempts lost to restarts of applications", "0", "lost_to_restarts", 0, _count,
         is_most=True),
)  # fmt: skip


def verdict(figures: Figures, loop: float) -> str:
    """Return a sentence: whether the bare parts are as fast as before, relative to the loop."""
    slower = {}
    for figure, (name, reference) in REFERENCES.items():
        if figure in figures:
            expected = reference * REFERENCE_LOOP / loop
            times = expected / figures[figure]
            if times > ALLOWED_SLOWER:
                slower[name] = times
    if not slower:
        return "Beside a loop of plain Python, the bare parts are as fast as when goals were set."
    listed = ", ".join(f"{name} {times:.1f} times" for name, times in slower.items())
    return (
        f"**Beside a loop of plain Python, bare parts are over {ALLOWED_SLOWER - 1:.0%} slower "
        f"than where the goals were set: {listed}.** Ratios within the run still hold."
    )


def reference_rows(figures: Figures, loop: float) -> list[list[str]]:
    """Return the bare parts, before and now, relative to the loop."""
    rows = []
    for figure, (name, reference) in REFERENCES.items():
        found = figures.get(figure)
        if found is not None:
            scaled = reference * REFERENCE_LOOP / loop
            rows.append([name, as_rate(reference), as_rate(scaled), as_rate(found),
                         as_part(found / scaled)])  # fmt: skip
    return rows
