"""Finds the process that listens at a TCP address (docs/decisions/0037-port-owners.md)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from poussetaches.core.hosts import UNSPECIFIED

if TYPE_CHECKING:
    from psutil._ntuples import pconn, sconn

CONNECT_TIMEOUT = 1.0  # seconds; a local address answers at once


def is_taken(host: str, port: int) -> bool:
    """Return whether something accepts connections at an address."""
    try:
        with socket.create_connection((host, port), CONNECT_TIMEOUT) as connection:
            return not is_to_itself(connection, port)
    except OSError:
        return False


def is_to_itself(connection: socket.socket, port: int) -> bool:
    """Return whether a socket that was connected to a port of this machine is its own peer.

    Linux can choose the very port as the local one if nothing listens there.
    """
    return bool(connection.getsockname()[1] == port)


def may_listen(processes: Iterable[psutil.Process], host: str, port: int) -> bool:
    """Return whether one of the processes listens at an address.

    Also return True if the sockets of one cannot be read, as with another user's process.
    """
    addresses = _addresses(host)
    for process in processes:
        try:
            connections = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            return True
        if any(_is_listener(each, addresses, port) for each in connections):
            return True
    return False


def process_tree(parent: int) -> list[psutil.Process]:
    """Return a process, its descendants, and the members of the session that it leads."""
    found = {}
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(parent)
        found = {each.pid: each for each in (process, *process.children(recursive=True))}
    for process_id in psutil.pids():
        if process_id not in found:
            with suppress(OSError, psutil.NoSuchProcess):
                if os.getsid(process_id) == parent:
                    found[process_id] = psutil.Process(process_id)
    return list(found.values())


def listener_of(host: str, port: int) -> psutil.Process | None:
    """Return the process that listens at an address, None if it is not visible."""
    addresses = _addresses(host)
    with suppress(OSError, psutil.Error):
        for each in psutil.net_connections("tcp"):
            if each.pid is not None and _is_listener(each, addresses, port):
                return psutil.Process(each.pid)
    return None


def name_of(process: psutil.Process | None) -> str:
    """Return the name and id of a process for a message."""
    if process is not None:
        with suppress(psutil.Error):
            return f"{process.name()} (process {process.pid})"
    return "another process"


def _addresses(host: str) -> set[str]:
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return set(UNSPECIFIED)
    return {str(info[4][0]) for info in found} | set(UNSPECIFIED)


def _is_listener(connection: pconn | sconn, addresses: set[str], port: int) -> bool:
    address = connection.laddr
    if not address or connection.status != psutil.CONN_LISTEN:
        return False
    return address.port == port and address.ip in addresses
