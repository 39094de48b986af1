"""Which process listens at a TCP address of this machine (docs/decisions/0037-port-owners.md)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress

import psutil

WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, nothing listens on them here
LOOKS = 3  # a socket that is opened during a look has no process in it
CONNECT_TIMEOUT = 1.0  # seconds; a local address answers at once


def is_taken(host: str, port: int) -> bool:
    """Return whether something accepts connections at an address."""
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True


def listeners(host: str, port: int) -> set[int | None]:
    """Return the ids of the processes that listen at an address.

    A process of another user, or any process on systems that hide them, is ``None``.
    """
    found: set[int | None] = {None}
    for _ in range(LOOKS):
        found = _look(host, port)
        if None not in found:
            break
    return found


def _look(host: str, port: int) -> set[int | None]:
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, port)} | WILDCARDS
        connections = psutil.net_connections("tcp")
    except (OSError, psutil.Error):
        return {None}
    return {
        each.pid
        for each in connections
        if each.status == psutil.CONN_LISTEN and each.laddr
        if each.laddr.port == port and each.laddr.ip in addresses
    }


def belongs_to(process_id: int, parent: int) -> bool:
    """Return whether a process is the parent, a descendant, or a member of its session."""
    with suppress(OSError):
        if os.getsid(process_id) == parent:
            return True
    return process_id in {parent, *_descendants(parent)}


def describe(process_ids: Iterable[int | None]) -> str:
    """Return the name and id of the first process that can be seen."""
    for process_id in process_ids:
        if process_id is not None:
            with suppress(psutil.Error):
                return f"{psutil.Process(process_id).name()} (process {process_id})"
    return "another process"


def _descendants(parent: int) -> Iterable[int]:
    try:
        return [child.pid for child in psutil.Process(parent).children(recursive=True)]
    except psutil.Error:
        return []
