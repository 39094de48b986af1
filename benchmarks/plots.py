"""The plots of the report: growth curves, distributions of latency, the alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.answers import Answer

SIZE = (6.4, 3.4)  # inches
TASKS = ("an HTTP call", "nothing")  # the tasks of the alternatives
THOUSANDS = "{x:,.0f}"

# Text is not converted to paths, so that files are small; the salt makes them reproducible.
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "poussetaches",
        "font.family": "sans-serif",
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.alpha": 0.3,
    }
)


def draw(answers: Mapping[str, Answer], folder: Path) -> dict[str, list[str]]:
    """Draw a plot for each stored answer; return the names of the files by question."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, list[str]] = {}
    for question, plots in PLOTS.items():
        if question in answers:
            for name, plot in plots.items():
                plot(answers[question], folder / f"{name}.svg")
                drawn.setdefault(question, []).append(f"{name}.svg")
    return drawn


def growth(answer: Answer, path: Path) -> None:
    """Draw the rates over the size of the backlog."""
    _over_sizes(answer, path, ("push", "drain"), "tasks waiting", "tasks a second")


def costs(answer: Answer, path: Path) -> None:
    """Draw memory over the size of the backlog."""
    _over_sizes(answer, path, ("memory",), "tasks waiting", "MB of memory")


def starts(answer: Answer, path: Path) -> None:
    """Draw the time of the start over the size of the backlog."""
    names = ("first_answer", "first_delivery")
    _over_sizes(answer, path, names, "tasks waiting", "seconds after the start")


def queues(answer: Answer, path: Path) -> None:
    """Draw the rates over the number of queues."""
    _over_sizes(answer, path, ("push", "drain"), "queues", "tasks a second")


def latency(answer: Answer, path: Path) -> None:
    """Draw the share of the tasks that is delivered within a time."""
    figure, axes = _figure()
    for name, times in answer.series.items():
        parts = [(step + 1) / len(times) for step in range(len(times))]
        axes.plot([time * 1000 for time in times], parts, label=name)
    axes.set(xscale="log", xlabel="ms from push to delivery", ylabel="part of the tasks")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_ylim(0, 1.01)
    axes.legend(frameon=False)
    _save(figure, path)


def alternatives(answer: Answer, path: Path) -> None:
    """Draw how many tasks a second each alternative pushes and runs concurrently."""
    figure, axes = _figure()
    names = list(answer.series)
    for place, name in enumerate(names):
        for lower, rate in enumerate(answer.series[name]):
            axes.barh(place - 0.2 + 0.4 * lower, rate, height=0.38, color=f"C{lower}")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="tasks a second, at once")
    axes.legend(handles=[Patch(color=f"C{n}", label=name) for n, name in enumerate(TASKS)],
                frameon=False)  # fmt: skip
    axes.xaxis.set_major_formatter(THOUSANDS)
    _save(figure, path)


def _over_sizes(answer: Answer, path: Path, names: tuple[str, ...], label: str, unit: str) -> None:
    figure, axes = _figure()
    sizes = answer.series["size"]
    for name in names:
        axes.plot(sizes, answer.series[name], "o-", label=name.replace("_", " "))
    axes.set(xlabel=label, ylabel=unit)
    # The logarithmic scale has no zero: it is drawn one step before the smallest other size.
    axes.set_xscale("symlog", linthresh=min(size for size in sizes if size))
    axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    axes.set_xticks([], minor=True)
    most = max(max(answer.series[name]) for name in names)
    axes.set_ylim(0, 1.15 * most)
    if most > 1_000:
        axes.yaxis.set_major_formatter(THOUSANDS)
    axes.legend(frameon=False)
    _save(figure, path)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})


PLOTS = {
    "latency": {"latency": latency},
    "backlog": {"backlog": growth, "backlog_memory": costs, "backlog_start": starts},
    "queues": {"queues": queues},
    "alternatives": {"alternatives": alternatives},
}
