"""The command ``poussetaches backup``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from poussetaches.cli.options import Config, DataDir, Force, data_folder
from poussetaches.cli.progress_bar import progress_bar


def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to write.")],
    data_dir: DataDir = None,
    config: Config = None,
    force: Force = False,
) -> int:
    """Copy the database to a file.

    The server may run meanwhile. To restore the backup, copy it to an empty data folder as
    tasks.db, and start a server there. Only the owner can read the file, since it contains the
    bodies and headers of tasks.
    """
    # Here, because the other commands need none of it.
    from poussetaches.store import back_up_store  # noqa: PLC0415

    target = Path(file)
    folder = data_folder(data_dir, config)
    with progress_bar() as progress:
        size = back_up_store(folder, target, progress, replace=force)
    sys.stdout.write(f"{target}: {size:,} bytes\n")
    return 0
