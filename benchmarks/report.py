"""Writes the report of a run; ``python -m benchmarks.report`` writes it from stored answers.

A full run goes into ``benchmarks/README.md``, between its markers; a quick one stays among the
results.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.answers import FOLDER, Answer, kept
from benchmarks.goals import GOALS, REFERENCE_LOOP, reference_rows, verdict
from benchmarks.measuring import QUICK, markdown

QUESTIONS = (
    "limits", "push", "drain", "sustained", "profile", "latency", "backlog", "queues", "origins",
    "app_servers",
    "payloads", "idle", "imports", "disk", "listing", "due_search", "alternatives",
)  # fmt: skip

HERE = Path(__file__).parent
MARKED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
TEMPLATE = "\n\n".join(
    f"<!-- generated: {name} -->\n<!-- end -->" for name in ("verdict", "goals", "results")
)


def write() -> Path:
    """Write the report; return its path."""
    from benchmarks import plots  # noqa: PLC0415 - only a report needs matplotlib

    answers = kept()
    page = FOLDER / "report.md" if QUICK else HERE / "README.md"
    drawn = plots.draw(answers, page.parent / "plots")
    text = TEMPLATE if QUICK else page.read_text()
    page.write_text(rewritten(text, answers, drawn))
    return page


def forget(question: str) -> None:
    """Delete the answers of the last run, so that none appears in the new report."""
    (FOLDER / f"{question}.json").unlink(missing_ok=True)


def rewritten(text: str, answers: Mapping[str, Answer], drawn: Mapping[str, list[str]]) -> str:
    """Return a page with new generated parts."""
    parts = {
        "verdict": verdict_of(answers),
        "goals": goals_of(answers),
        "results": results_of(answers, drawn),
    }
    return MARKED.sub(lambda match: f"{match[1]}\n{parts[match[2]]}\n\n{match[3]}", text)


def verdict_of(answers: Mapping[str, Answer]) -> str:
    """Return the first line: whether the machine was as fast as that of the goals."""
    limits = answers.get("limits")
    if limits is None:
        return "The bare parts were not measured."
    return verdict(limits.figures, limits.loop)


def goals_of(answers: Mapping[str, Answer]) -> str:
    """Return goals, results and the machine."""
    figures = figures_of(answers)
    goals = markdown(["question", "wanted", "found", "met"], [goal.row(figures) for goal in GOALS])
    parts = [goals]
    limits = answers.get("limits")
    if limits is not None:
        head = ["bare part", "where the goals were set, a second", "the same beside today's loop",
                "found", "of it"]  # fmt: skip
        loops = f"The fixed loop took {limits.loop:.3f} s; {REFERENCE_LOOP:.3f} s there."
        parts += [markdown(head, reference_rows(limits.figures, limits.loop)), loops]
        facts = [[name, value] for name, value in limits.machine.items()]
        facts.append(["measured", limits.measured_at])
        parts.append(markdown(["machine", ""], facts))
    return "\n\n".join(parts)


def results_of(answers: Mapping[str, Answer], drawn: Mapping[str, list[str]]) -> str:
    """Return all tables with their plots."""
    parts = []
    for question in QUESTIONS:
        answer = answers.get(question)
        if answer is None:
            parts.append(f"`{question}.py`: not measured.")
            continue
        parts += [table.shown("###") for table in answer.tables]
        parts += [f"![{name}](plots/{name})" for name in drawn.get(question, ())]
        parts.append(f"A fixed loop took {answer.loop:.3f} s in this run; {answer.busy}.")
    return "\n\n".join(parts)


def figures_of(answers: Mapping[str, Answer]) -> dict[str, float]:
    """Return the figures of all questions."""
    return {name: value for answer in answers.values() for name, value in answer.figures.items()}


if __name__ == "__main__":
    sys.stdout.write(f"{write()}\n")
