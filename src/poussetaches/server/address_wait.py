"""Waits until the address of the application is free (docs/decisions/0037-port-owners.md)."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress

import psutil

from poussetaches.core.errors import AddressTaken, InvalidTask
from poussetaches.core.target import parse_target
from poussetaches.server.port_owner import CONNECT_TIMEOUT, is_taken, listener_of, name_of

LIMIT = 5.0  # seconds; a previous process may still be ending
# As long as `run` itself gives an application to end.
ENDING_LIMIT = 45.0  # seconds; above the 30 s that gunicorn gives its workers
INTERVAL = 0.1  # seconds between two checks
SERVER_VARIABLE = "POUSSETACHES_URL"

log = logging.getLogger(__name__)


async def wait_until_free(
    url: str, server_url: str, *, limit: float = LIMIT, ending_limit: float = ENDING_LIMIT
) -> None:
    """Wait until nothing listens at the application's address.

    An application whose ``run`` was killed has up to ``ending_limit`` seconds, all other programs
    ``limit``. ``server_url`` is the address of this server.

    Raises:
        AddressTaken: the address is still in use.
    """
    _, host, port = parse_target(url)
    now = asyncio.get_running_loop().time
    give_up_at, is_ending = now() + limit, False
    while is_taken(host, port):
        listener = await asyncio.to_thread(listener_of, host, port)
        if listener is not None and listener.pid == os.getpid():
            raise AddressTaken(
                f"this server listens at {server_url}, where the application is to listen; give "
                "the application another port, or the server with --port"
            )
        if listener is not None and not is_ending and is_left_over(listener, server_url):
            fields = {"program": name_of(listener), "url": url, "limit": ending_limit}
            log.warning("waiting for the application of an earlier run to end", extra=fields)
            give_up_at, is_ending = now() + ending_limit, True
        if now() >= give_up_at:
            raise _taken(url, listener, is_ending=is_ending)
        await asyncio.sleep(INTERVAL)


def is_left_over(process: psutil.Process, server_url: str) -> bool:
    """Return whether a process belongs to an application whose ``run`` has ended.

    ``run`` starts an application in a session of its own, and its environment has the address of
    the server. That server is gone if this one listens there, or if nothing does.
    """
    with suppress(OSError, psutil.Error, InvalidTask):  # a hidden process, a strange address
        leader = psutil.Process(os.getsid(process.pid))
        url = leader.environ().get(SERVER_VARIABLE)
        return url is not None and (url == server_url or not _accepts(url))
    return False


def _accepts(url: str) -> bool:
    if not url.startswith("unix:"):
        _, host, port = parse_target(url)
        return is_taken(host, port)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_TIMEOUT)
        try:
            connection.connect(url.removeprefix("unix:"))
        except OSError:
            return False
    return True


def _taken(url: str, listener: psutil.Process | None, *, is_ending: bool) -> AddressTaken:
    if is_ending:
        return AddressTaken(
            f"{name_of(listener)}, which belongs to an earlier `poussetaches run` that was killed,"
            f" still listens at {url}; stop it, or give the application another port"
        )
    return AddressTaken(
        f"{name_of(listener)} already listens at {url}, where the application is to listen; stop"
        " it, or give the application another port"
    )
