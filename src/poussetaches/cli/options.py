"""Options that several commands share: the data folder, and the server that a command calls."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from poussetaches.client.address import DEFAULT_URL
from poussetaches.client.environment import URL
from poussetaches.core.errors import PousseTachesError, SettingsError
from poussetaches.core.target import without_credentials
from poussetaches.settings import load_settings

if TYPE_CHECKING:
    from poussetaches.client import Client
    from poussetaches.store.folder import DataFolder

CALL_TIMEOUT = 20.0  # seconds

DataDir = Annotated[
    str | None,
    typer.Option(
        "--data-dir", metavar="PATH", help="Data folder of the server; default: as for serve."
    ),
]
Config = Annotated[
    str | None,
    typer.Option("--config", metavar="PATH", help="TOML file with the server's settings."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help=f"URL of the server; default: {URL}, then the running server of the data folder,"
        f" then {DEFAULT_URL}. The token is read from POUSSETACHES_API_TOKEN or"
        " POUSSETACHES_API_TOKEN_FILE.",
    ),
]


class NoServer(PousseTachesError):
    """No server runs on the data folder."""


class ServerAddress(NamedTuple):
    """The URL of the server that a command calls, and the source of the URL in words."""

    url: str
    source: str

    def __str__(self) -> str:
        return f"{without_credentials(self.url)} ({self.source})"

    @property
    def is_default(self) -> bool:
        """Whether no option, variable or data folder named the server."""
        return self.source == "the default"

    def client(self) -> Client:
        """Return a client of the server; it reads the token from the environment or its file."""
        from poussetaches.client import Client  # noqa: PLC0415 - most commands need none

        return Client(self.url, timeout=CALL_TIMEOUT, push_timeout=CALL_TIMEOUT)


def data_folder(data_dir: str | None, config: str | None) -> DataFolder:
    """Return the folder that a server with these settings would use."""
    from poussetaches.store.folder import DataFolder  # noqa: PLC0415 - some commands need none

    flags = {"data_dir": data_dir}
    settings = load_settings(flags, os.environ, None if config is None else Path(config))
    return DataFolder(settings.storage.data_dir)


def server_address(
    url: str | None, data_dir: str | None, config: str | None, environ: Mapping[str, str]
) -> ServerAddress:
    """Return the address of the server to call.

    Raises:
        SettingsError: both a URL and a data folder are given, or another setting is invalid.
        NoServer: no server runs on the data folder that is given.
    """
    if url and data_dir:
        raise SettingsError("--url conflicts with --data-dir; remove one of them")
    if url:
        return ServerAddress(url, "--url")
    if environ.get(URL) and not data_dir:
        return ServerAddress(environ[URL], URL)
    folder = data_folder(data_dir, config)
    if address := folder.server_address():
        return ServerAddress(address, str(folder.address_path))
    if data_dir:
        raise NoServer(
            f"no server runs on the data folder {data_dir}, or its file {folder.address_path.name}"
            " cannot be read; start the server, or give --url"
        )
    return ServerAddress(DEFAULT_URL, "the default")
