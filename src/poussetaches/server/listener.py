"""The server's listening socket: a TCP address, which may require a token, or a Unix socket."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import shlex
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from poussetaches.core.errors import CannotListen, SettingsError
from poussetaches.core.hosts import UNSPECIFIED
from poussetaches.settings.table import Listener, Security

BACKLOG = 2048  # connections that may wait to be accepted

# The connection of a client that does not read for this long is closed
# (server/connection_limits.py). The system gets the same limit, for data in its own buffers when
# the client's machine has vanished.
UNREAD_LIMIT = 60  # seconds
# Per connection; Linux doubles it. Without a limit it grows to megabytes that nothing counts.
SEND_BUFFER = 64 * 1024  # bytes

log = logging.getLogger(__name__)


@contextlib.contextmanager
def listening(
    configured: Listener, security: Security, *, any_port: bool = False
) -> Iterator[socket.socket]:
    """Listen on the configured address, and close the socket at the end.

    With ``any_port``, a free port replaces one that is in use.

    Raises:
        CannotListen: the address is in use or not available.
        SettingsError: the address needs a token.
    """
    listener = (
        _listen_on(configured, security, any_port=any_port)
        if configured.uds is None
        else _listen_at(configured.uds)
    )
    try:
        yield listener
    finally:
        listener.close()
        if configured.uds is not None:
            configured.uds.unlink(missing_ok=True)


def address_of(listener: socket.socket) -> str:
    """Return the address that a socket listens on, as text."""
    if listener.family is socket.AF_UNIX:
        return f"unix:{os.fsdecode(listener.getsockname())}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def reachable_address(address: str) -> str:
    """Return the address to connect to on this machine to reach a listener."""
    if address.startswith("unix:"):
        return f"unix:{Path(address.removeprefix('unix:')).absolute()}"
    parts = urlsplit(address)
    host = UNSPECIFIED.get(parts.hostname or "", parts.hostname or "")
    return f"http://[{host}]:{parts.port}" if ":" in host else f"http://{host}:{parts.port}"


def _listen_on(configured: Listener, security: Security, *, any_port: bool) -> socket.socket:
    host, port = configured.host, configured.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        _check_guarded(str(address[0]), configured.host, security)
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _limit_unread(listener)
    except OSError as exc:
        raise CannotListen(f"cannot listen on {host}: {exc.strerror}; see --host") from exc
    try:
        _bind(listener, address, any_port=any_port)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise CannotListen(
            f"cannot listen on {host} port {port}: {_why_not_bound(exc, host, port)}"
        ) from exc
    return listener


def _bind(listener: socket.socket, address: tuple[Any, ...], *, any_port: bool) -> None:
    try:
        listener.bind(address)
    except OSError as exc:
        if not any_port or exc.errno != errno.EADDRINUSE:
            raise
        listener.bind((address[0], 0, *address[2:]))


def _why_not_bound(exc: OSError, host: str, port: int) -> str:
    """Return the reason why a TCP address is not available, and what to do."""
    if exc.errno == errno.EADDRINUSE:
        # Here, because a server that can listen needs none of it.
        from poussetaches.server.port_owner import listener_of, name_of  # noqa: PLC0415

        user = name_of(listener_of(host, port))
        return f"{user} already listens there; stop it, or choose another port with --port"
    if exc.errno == errno.EADDRNOTAVAIL:
        return "it is no address of this machine; give one with --host"
    return f"{exc.strerror}; choose another with --host or --port"


def warn_of_other_port(configured: Listener, address: str, address_file: Path | None) -> None:
    """Warn if a server listens on another port than the configured one, which clients use.

    ``address_file`` is the file that has the address, if there is one.
    """
    if configured.uds is not None or configured.port in (0, urlsplit(address).port):
        return
    url = reachable_address(address)
    if address_file is not None:
        url = f"$(cat {shlex.quote(str(address_file))})"
    fields = {
        "port": configured.port,
        "address": address,
        "advice": "commands in other shells reach the server on the other port unless you set"
        f" POUSSETACHES_URL={url}",
    }
    log.warning("port is in use by another program, listening on a free one", extra=fields)


def _limit_unread(listener: socket.socket) -> None:
    """Limit how much of a response the system buffers for a client, and for how long."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_LIMIT * 1000)


def _check_guarded(address: str, host: str, security: Security) -> None:
    """Refuse an address that other machines can reach unless a token is required."""
    if security.api_token is not None or is_loopback(address):
        return
    if not security.allow_unauthenticated:
        raise SettingsError(
            f"listening on {host} would allow every machine that can reach it to push tasks; "
            "set POUSSETACHES_API_TOKEN, or --allow-unauthenticated if this is intended"
        )
    log.warning(
        "no API token is set: every client that can reach the address may use the API",
        extra={"host": host},
    )


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach an address."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_loopback


def _listen_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_abandoned(path)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise CannotListen(
            f"cannot listen at {path}: {_why_not_at(exc, path)}; choose another with --uds"
        ) from exc
    return listener


def _why_not_at(exc: OSError, path: Path) -> str:
    """Return the reason why a Unix socket cannot be made."""
    if exc.errno != errno.EADDRINUSE:
        return exc.strerror or str(exc)
    if path.is_dir():
        return "it is a folder"
    return "another server listens there" if path.is_socket() else "there is another file"


def _remove_abandoned(path: Path) -> None:
    """Remove a socket without a listener; other files stay."""
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
