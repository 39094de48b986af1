"""The results of a benchmark: tables for people, figures and series for the report."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import uvloop

from benchmarks import machine
from benchmarks.measuring import QUICK, fixed_loop, markdown

FOLDER = Path(__file__).parent / "results" / ("quick" if QUICK else "full")


class Table(msgspec.Struct, frozen=True):
    """A table with a title and notes."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""

    def shown(self, level: str) -> str:
        """Return it as Markdown under a heading."""
        parts = [f"{level} {self.title}", markdown(self.head, self.rows)]
        return "\n\n".join([*parts, self.note] if self.note else parts)


class Answer(msgspec.Struct):
    """The results of one benchmark. Names of figures are unique over all benchmarks."""

    question: str
    tables: list[Table]
    figures: dict[str, float] = {}
    series: dict[str, list[float]] = {}  # for plots
    loop: float = 0.0  # seconds that the fixed loop took in the same run
    measured_at: str = ""
    machine: dict[str, str] = {}
    busy: str = ""  # how busy the machine was


def publish(asked: Coroutine[None, None, Answer]) -> None:
    """Run a benchmark, print its tables, and store its answer for the report."""
    machine.pin(machine.LOAD_CORE)
    load, usage = machine.waiting_load(), machine.Usage.now()
    before = fixed_loop()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answer = runner.run(asked)
    # The faster loop shows the speed of the machine; a slower one was disturbed.
    answer.loop = min(before, fixed_loop())
    answer.measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    answer.machine = machine.described()
    answer.busy = f"{machine.Usage.now().since(usage)}; load {load} before"
    for table in answer.tables:
        show(table)
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(answer))
    (FOLDER / f"{answer.question}.json").write_bytes(text)


def show(table: Table) -> None:
    """Print a table as Markdown."""
    sys.stdout.write(f"\n{table.shown('##')}\n")
    sys.stdout.flush()


def kept(folder: Path = FOLDER) -> dict[str, Answer]:
    """Return the answers of the last run by their questions."""
    decode = msgspec.json.Decoder(Answer).decode
    answers = [decode(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    return {answer.question: answer for answer in answers}
