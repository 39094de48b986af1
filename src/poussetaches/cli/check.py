"""The command ``poussetaches check``: sends a probe to the application through the server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poussetaches.cli.shared_options import Config, DataDir, Url, server_address
from poussetaches.core.errors import SettingsError
from poussetaches.core.target import without_credentials

if TYPE_CHECKING:
    from poussetaches.cli.receiver_process import ReceiverProcess


def check(
    url: Url = None,
    queue: Annotated[
        str,
        typer.Option("--queue", metavar="NAME", help="Queue of the probe; created if missing."),
    ] = "default",
    path: Annotated[
        str, typer.Option("--path", metavar="PATH", help="Path of the application's receiver.")
    ] = "/_poussetaches",
    data_dir: DataDir = None,
    config: Config = None,
) -> int:
    """Check that tasks reach the application.

    Sends a probe through the server to the application. The exit status is 0 if the application's
    task receiver accepted it, and the server accepted all queues and schedules that the
    application declares. Otherwise one line names the problem and its solution, and the status is
    2 if an option or a setting is wrong, else 1.
    """
    if not path.startswith("/"):
        raise SettingsError(f"--path: {path!r} is not a path; it must begin with /")
    # Here, because the other commands need none of it.
    from poussetaches.cli.check_probe import send_probe  # noqa: PLC0415
    from poussetaches.cli.receiver_process import process_at  # noqa: PLC0415

    server = server_address(url, data_dir, config, os.environ)
    arrival = send_probe(server, queue=queue, path=path)
    target = arrival.target
    process = process_at(target)
    warning = other_folder_warning(process) if server.is_default else ""
    sys.stdout.write(
        f"{without_credentials(target)} answered in {arrival.duration:.3f} s: the server at"
        f" {server} delivers tasks to {process or 'the application'}{warning}\n"
    )
    for each in arrival.warnings:
        sys.stderr.write(f"warning: {each}\n")
    return 0


def other_folder_warning(process: ReceiverProcess | None) -> str:
    """Return a warning if the application runs in another folder than this command."""
    if process is None or process.folder is None:
        return ""
    here, there = Path.cwd(), process.folder
    if here.is_relative_to(there) or there.is_relative_to(here):
        return ""
    return "; that is not the current folder: if it is another application, give --url"
