"""The command ``poussetaches verify``, which looks through a store."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from poussetaches.cli.progress import progress_bar
from poussetaches.core.errors import CannotOpenStore, SettingsError

if TYPE_CHECKING:
    from poussetaches.store.verify_report import VerifyReport

N = TypeVar("N", int, float)
LARGEST = 1_000_000
FINE, PROBLEMS, CANNOT_LOOK = 0, 1, 2


def verify(
    data_dir: Annotated[
        str | None,
        typer.Argument(metavar="DATA_DIR", help="The data folder; an empty one to crash-test."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the report as JSON.")] = False,
    crash_test: Annotated[
        bool, typer.Option("--crash-test", help="Kill a server of its own under load instead.")
    ] = False,
    kills: Annotated[
        str, typer.Option("--kills", metavar="N", help="How often the crash test kills it.")
    ] = "20",
    seconds: Annotated[
        str,
        typer.Option("--seconds", metavar="S", help="How long it is under load in all, about."),
    ] = "10",
) -> int:
    """Look through a data folder, and say what is wrong in it. Nothing in it is changed.

    The exit status is 0 when all is well, 1 when something is wrong, and 2 when there is nothing
    that can be read. The server may be running, or be started during the check.

    With --crash-test, push to a server of its own, kill -9 it again and again at random moments,
    and account for every task. The exit status is 1 when one was lost or came early.
    """
    if crash_test:
        # Here, because the other commands need none of it.
        from poussetaches.cli.crash_test.command import run_crash_test  # noqa: PLC0415

        count, length = number("--kills", kills, int), number("--seconds", seconds, float)
        return run_crash_test(data_dir, kills=count, seconds=length, as_json=as_json)
    if data_dir is None:
        raise SettingsError(
            "verify needs DATA_DIR, or --crash-test; see poussetaches verify --help"
        )
    return verify_folder(Path(data_dir), as_json=as_json)


def verify_folder(path: Path, *, as_json: bool) -> int:
    # Here, because the other commands need none of it.
    from poussetaches.store import verify_store  # noqa: PLC0415
    from poussetaches.store.folder import DataFolder  # noqa: PLC0415

    try:
        with progress_bar() as progress:
            report = verify_store(DataFolder(path), progress)
    except CannotOpenStore as exc:
        sys.stderr.write(f"poussetaches: {exc}\n")
        return CANNOT_LOOK
    sys.stdout.write(as_machine_reads(report) if as_json else as_people_read(report))
    return PROBLEMS if report.problems else FINE


def number(option: str, text: str, kind: Callable[[str], N]) -> N:
    """Return the number that an option was given.

    Raises:
        SettingsError: it is none.
    """
    try:
        value = kind(text)
        if not 0 <= value <= LARGEST:
            raise ValueError
    except ValueError:
        raise SettingsError(
            f"{option}: {text!r} is not possible; give a number from 0 on"
        ) from None
    return value


def as_machine_reads(report: VerifyReport) -> str:
    content = {"fine": not report.problems, **msgspec.to_builtins(report)}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_people_read(report: VerifyReport) -> str:
    facts = report.facts
    lines = [f"{facts['database']}"]
    if "bytes" in facts:
        lines[0] += f": {facts['bytes']:,} bytes, format {facts.get('format', 'not known')}"
    if isinstance(states := facts.get("tasks"), dict):
        listed = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
        lines.append(f"{sum(states.values()):,} tasks can be read{listed and ': ' + listed}")
    if isinstance(ids := facts.get("first_and_last_id"), list) and ids and report.problems:
        lines.append(f"the first of them is {ids[0]}, the last {ids[-1]}")
    lines += [f"note: {note}" for note in report.notes]
    for problem in report.problems:
        many = f"{problem.count:,} times: " if problem.count > 1 else ""
        lines.append(f"wrong: {many}{problem.what}")
        lines += [f"    {example}" for example in problem.examples]
        if problem.count > len(problem.examples) > 0:
            lines.append("    …")
    lines.append("all is well" if not report.problems else "")
    if report.advice:
        lines.append(f"What to do: {report.advice}.")
    return "\n".join(line for line in lines if line) + "\n"
