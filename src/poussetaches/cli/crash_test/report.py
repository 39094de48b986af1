"""Runs ``poussetaches verify --crash-test``, and prints its report."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from random import Random

import msgspec

from poussetaches.cli.crash_test.account import Account
from poussetaches.cli.crash_test.kill_loop import crash_test
from poussetaches.cli.crash_test.victim import CrashTestFailed
from poussetaches.cli.progress_bar import progress_bar
from poussetaches.core.errors import SettingsError

SHOWN = 10  # names of tasks


def run_crash_test(data_dir: str | None, *, kills: int, seconds: float, as_json: bool) -> int:
    """Run a crash test in an empty folder, or a temporary one; return the exit status."""
    if data_dir is not None:
        check_empty(Path(data_dir))
    made = None if data_dir else Path(tempfile.mkdtemp(prefix="poussetaches-crash-test-"))
    folder = made / "data" if made else Path(str(data_dir))
    chance = Random()  # noqa: S311 - when to kill
    try:
        with progress_bar() as progress:
            account = crash_test(
                folder, kills=kills, seconds=seconds, random=chance, progress=progress
            )
    except CrashTestFailed as exc:
        raise CrashTestFailed(f"{exc}; the folder {folder} is kept") from exc
    except OSError as exc:
        raise CrashTestFailed(
            f"the crash test cannot use {folder}: {exc}; give another folder"
        ) from exc
    sys.stdout.write(as_json_text(account) if as_json else as_text(account))
    if not account.is_fine:
        sys.stderr.write(f"poussetaches: the crash test failed; the folder {folder} is kept\n")
        return 1
    if made:
        shutil.rmtree(made)
    return 0


def check_empty(folder: Path) -> None:
    """Check that a folder is empty or does not exist.

    Raises:
        SettingsError: the folder is not empty, or not accessible.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise SettingsError(f"{folder} is not empty; give an empty folder for the crash test")
    except OSError as exc:
        raise SettingsError(
            f"cannot use {folder}: {exc.strerror}; give an empty folder for the crash test"
        ) from exc


def as_json_text(account: Account) -> str:
    content = {"fine": account.is_fine, **msgspec.to_builtins(account)}
    return json.dumps(content, indent=2) + "\n"


def as_text(account: Account) -> str:
    lines = [
        f"{account.kills:,} kills",
        f"{account.acknowledged:,} pushes acknowledged",
        f"{account.unacknowledged:,} pushes not acknowledged; "
        f"{account.unacknowledged_delivered:,} of these tasks were delivered",
        f"{account.once:,} tasks delivered once per attempt",
        f"{account.repeated:,} tasks delivered more often, with {account.repeats:,} repeats of at "
        f"most {account.bound:,}",
        f"{len(account.lost):,} tasks lost",
        f"{len(account.early):,} tasks delivered early",
    ]
    lines += [f"lost: {name}" for name in account.lost[:SHOWN]]
    lines += [f"early: {name}" for name in account.early[:SHOWN]]
    lines += [f"problem in the folder: {what}" for what in account.problems]
    return "\n".join(lines) + "\n"
