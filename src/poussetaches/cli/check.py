"""The command ``poussetaches check``, which sends a probe the way of every task."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poussetaches.cli.data_folder import Config, DataDir, data_folder
from poussetaches.core.errors import PousseTachesError, SettingsError
from poussetaches.core.target import without_credentials

if TYPE_CHECKING:
    from poussetaches.cli.program import Program

DEFAULT_URL = "http://127.0.0.1:7991"
URL = "POUSSETACHES_URL"
DEFAULT = "the default"


class NoServer(PousseTachesError):
    """No server runs on the data folder."""


def check(
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Where the server is; otherwise POUSSETACHES_URL, or the address in the data"
            f" folder of a running server, or {DEFAULT_URL}.",
        ),
    ] = None,
    queue: Annotated[
        str, typer.Option("--queue", metavar="NAME", help="Queue that the probe is pushed to.")
    ] = "default",
    path: Annotated[
        str, typer.Option("--path", metavar="PATH", help="Path of the application's receiver.")
    ] = "/_poussetaches",
    data_dir: DataDir = None,
    config: Config = None,
) -> int:
    """Send a probe through a server to its application, and say what refuses it.

    Uses POUSSETACHES_API_TOKEN, as applications do. The exit status is 0 if the application's
    task receiver answered and the server accepted all queues and schedules that the code declares;
    otherwise it is 1, and one line says what is wrong and what to do.
    """
    # Here, because the other commands need none of it.
    from poussetaches.cli.probe import Server, probe  # noqa: PLC0415
    from poussetaches.cli.program import program_at  # noqa: PLC0415
    from poussetaches.client.environment import read_secret  # noqa: PLC0415

    address, source = server_address(url, data_dir, config, os.environ)
    server = Server(address, source, read_secret(os.environ, "POUSSETACHES_API_TOKEN"))
    target, duration = probe(server, queue=queue, path=path)
    program = program_at(target)
    sys.stdout.write(
        f"{without_credentials(target)} answers, in {duration:.3f} s: tasks are delivered by the"
        f" server at {server} to {program or 'the application'}"
        f"{doubt(program) if source == DEFAULT else ''}\n"
    )
    return 0


def doubt(program: Program | None) -> str:
    """Return a warning if nobody named the server and the application runs in another folder."""
    if program is None or program.folder is None:
        return ""
    here, there = Path.cwd(), program.folder
    if here.is_relative_to(there) or there.is_relative_to(here):
        return ""
    return ", which is not the current folder: if this is another application, give --url"


def server_address(
    url: str | None, data_dir: str | None, config: str | None, environ: Mapping[str, str]
) -> tuple[str, str]:
    """Return the server to ask, and in words where its address is from.

    Raises:
        SettingsError: both a URL and a data folder are given, or another setting is invalid.
        NoServer: no server runs on the data folder that is given.
    """
    if url and data_dir:
        raise SettingsError("--url and --data-dir both name a server; give one of them")
    if url:
        return url, "--url"
    if environ.get(URL) and not data_dir:
        return environ[URL], URL
    folder = data_folder(data_dir, config)
    if address := folder.server_address():
        return address, f"{folder.address_path}"
    if data_dir:
        raise NoServer(
            f"no server runs on the data folder {data_dir}, or its file {folder.address_path.name}"
            " cannot be read; give --url"
        )
    return DEFAULT_URL, DEFAULT
