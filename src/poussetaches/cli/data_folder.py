"""Where the data is, for commands that read the server's settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poussetaches.settings import load_settings

if TYPE_CHECKING:
    from poussetaches.store.folder import DataFolder

DataDir = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="PATH",
        help="The server's data folder; else as the server finds it.",
    ),
]
Config = Annotated[
    str | None,
    typer.Option("--config", metavar="PATH", help="The server's file of settings."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


def data_folder(data_dir: str | None, config: str | None) -> DataFolder:
    """Return the folder that a server with these settings would use."""
    from poussetaches.store.folder import DataFolder  # noqa: PLC0415 - other commands need it not

    flags = {"data_dir": data_dir}
    settings = load_settings(flags, os.environ, None if config is None else Path(config))
    return DataFolder(settings.storage.data_dir)
