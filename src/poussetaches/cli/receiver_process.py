"""Finds the process on this machine that listens at a URL."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from poussetaches.core.target import parse_target
from poussetaches.server.listener import is_loopback
from poussetaches.server.port_owner import listener_of, name_of


@dataclass(frozen=True)
class ReceiverProcess:
    """A process, and its current folder if that is visible."""

    name: str
    folder: Path | None

    def __str__(self) -> str:
        return self.name if self.folder is None else f"{self.name} in {self.folder}"


def process_at(url: str) -> ReceiverProcess | None:
    """Return the process that listens at a URL; None if it is remote or not visible."""
    _, host, port = parse_target(url)
    process = listener_of(host, port) if _is_local(host) else None
    if process is None:
        return None
    folder = None
    with suppress(psutil.Error):
        folder = Path(process.cwd())
    return ReceiverProcess(name_of(process), folder)


def _is_local(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return all(is_loopback(str(info[4][0])) for info in found)
