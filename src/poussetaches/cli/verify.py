"""The command ``poussetaches verify``: checks a data folder, or runs the crash test."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from poussetaches.cli.progress_bar import progress_bar
from poussetaches.cli.shared_options import Config, DataDir, data_folder
from poussetaches.core.errors import CannotOpenStore, SettingsError
from poussetaches.core.plural import counted

if TYPE_CHECKING:
    from poussetaches.store.folder import DataFolder
    from poussetaches.store.verify_report import VerifyReport

N = TypeVar("N", int, float)
MAX_NUMBER = 1_000_000
NO_PROBLEMS, PROBLEMS, UNREADABLE = 0, 1, 2  # exit statuses


def verify(
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA_DIR",
            help="Data folder; default: as for serve. For --crash-test, an empty folder.",
        ),
    ] = None,
    *,
    data_dir: DataDir = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the report as JSON.")] = False,
    crash_test: Annotated[
        bool, typer.Option("--crash-test", help="Run the crash test instead.")
    ] = False,
    kills: Annotated[
        str, typer.Option("--kills", metavar="N", help="Number of kills in the crash test.")
    ] = "20",
    seconds: Annotated[
        str,
        typer.Option("--seconds", metavar="S", help="Approximate duration of the load."),
    ] = "10",
) -> int:
    """Check a data folder for damage, without changing it.

    The exit status is 0 if no problem was found, 1 if one was found, and 2 if the data cannot be
    read. The server may run, or start, during the check.

    With --crash-test, start a separate server, push tasks to it, kill it with kill -9 at random
    times, and account for every task. The exit status is 1 if a task was lost or delivered early.
    """
    if crash_test:
        # Here, because the other commands need none of it.
        from poussetaches.cli.crash_test.report import run_crash_test  # noqa: PLC0415

        count, length = number("--kills", kills, int), number("--seconds", seconds, float)
        return run_crash_test(folder or data_dir, kills=count, seconds=length, as_json=as_json)
    if folder is not None and data_dir is not None:
        raise SettingsError("DATA_DIR conflicts with --data-dir; remove one of them")
    return verify_folder(data_folder(folder or data_dir, config), as_json=as_json)


def verify_folder(folder: DataFolder, *, as_json: bool) -> int:
    # Here, because the other commands need none of it.
    from poussetaches.store import verify_store  # noqa: PLC0415

    try:
        if folder.path.is_file():
            raise CannotOpenStore(
                f"{folder.path} is a file; to verify a backup, copy it to an empty folder as "
                "tasks.db, and give the folder"
            )
        with progress_bar() as progress:
            report = verify_store(folder, progress)
    except CannotOpenStore as exc:
        sys.stderr.write(f"poussetaches: {exc}\n")
        return UNREADABLE
    sys.stdout.write(as_json_text(report) if as_json else as_text(report))
    return PROBLEMS if report.problems else NO_PROBLEMS


def number(option: str, text: str, kind: Callable[[str], N]) -> N:
    """Return the number in the text of an option.

    Raises:
        SettingsError: it is not a number, or out of range.
    """
    try:
        value = kind(text)
        if not 0 <= value <= MAX_NUMBER:
            raise ValueError
    except ValueError:
        raise SettingsError(
            f"{option}: {text!r} is not valid; give a number from 0 to {MAX_NUMBER}"
        ) from None
    return value


def as_json_text(report: VerifyReport) -> str:
    content = {"fine": not report.problems, **msgspec.to_builtins(report)}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_text(report: VerifyReport) -> str:
    facts = report.facts
    lines = [f"{facts['database']}"]
    if "bytes" in facts:
        lines[0] += f": {facts['bytes']:,} bytes, format {facts.get('format', 'unknown')}"
    if isinstance(states := facts.get("tasks"), dict):
        listed = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
        lines.append(
            f"{counted(sum(states.values()), 'task')} can be read{listed and ': ' + listed}"
        )
    if isinstance(ids := facts.get("first_and_last_id"), list) and ids and report.problems:
        lines.append(f"the first is {ids[0]}, the last {ids[-1]}")
    lines += [f"note: {note}" for note in report.notes]
    for problem in report.problems:
        count = f"{problem.count:,} times: " if problem.count > 1 else ""
        lines.append(f"problem: {count}{problem.what}")
        lines += [f"    {example}" for example in problem.examples]
        if problem.count > len(problem.examples) > 0:
            lines.append("    …")
    lines.append("no problems found" if not report.problems else "")
    if report.advice:
        lines.append(f"What to do: {report.advice}.")
    return "\n".join(line for line in lines if line) + "\n"
