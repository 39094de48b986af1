"""The commands ``poussetaches export`` and ``poussetaches import``."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from poussetaches.cli.progress_bar import progress_bar
from poussetaches.cli.shared_options import Config, DataDir, Force, data_folder
from poussetaches.core.errors import CannotReadExport, CannotWriteFile
from poussetaches.core.moment import Moment
from poussetaches.core.plural import counted

STDIO = "-"


def export(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="File to write; - is stdout.")
    ] = STDIO,
    data_dir: DataDir = None,
    config: Config = None,
    force: Force = False,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Export the readable part of a damaged database.")
    ] = False,
) -> int:
    """Export all data as JSON lines.

    The server may run meanwhile. Only the owner can read the file, since it contains the bodies
    and headers of tasks, including secret ones.
    """
    # Here, because the other commands need none of it.
    from poussetaches.store import export_store  # noqa: PLC0415
    from poussetaches.store.atomic_file import atomic_file  # noqa: PLC0415

    folder = data_folder(data_dir, config)
    with progress_bar() as progress:
        if file == STDIO:
            out = sys.stdout.buffer
            try:
                count = export_store(folder, out.write, progress, now=now(), salvage=salvage)
                out.flush()
            except OSError as exc:
                raise CannotWriteFile(f"cannot write to stdout: {exc.strerror}") from exc
        else:
            target = Path(file)
            folder.check_not_own(target)
            with atomic_file(target, replace=force) as beside, beside.open("wb") as opened:
                count = export_store(folder, opened.write, progress, now=now(), salvage=salvage)
    sys.stderr.write(f"{counted(count, 'task')} exported\n")
    return 0


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to read; - is stdin.")] = STDIO,
    data_dir: DataDir = None,
    config: Config = None,
) -> int:
    """Import an export into an empty data folder.

    Either everything is imported, or nothing.
    """
    # Here, because the other commands need none of it.
    from poussetaches.store import import_store  # noqa: PLC0415

    folder = data_folder(data_dir, config)
    try:
        opened = sys.stdin.buffer if file == STDIO else Path(file).open("rb")  # noqa: SIM115
    except OSError as exc:
        raise CannotReadExport(f"cannot read {file}: {exc.strerror}") from exc
    folder.lock(user="an import")
    try:
        with opened, progress_bar() as progress:
            chance = Random()  # noqa: S311 - no secrets
            count = asyncio.run(import_store(folder, opened, progress, now=now, random=chance))
    finally:
        folder.unlock()
    sys.stderr.write(f"{counted(count, 'task')} imported\n")
    return 0


def now() -> Moment:
    return Moment(time.time_ns() // 1000)
