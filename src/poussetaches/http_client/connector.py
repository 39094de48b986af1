"""``Connector``: connections to the addresses of a host, with TLS for https."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

from poussetaches.core.target import Target
from poussetaches.http_client.deadline_wheel import DeadlineWheel
from poussetaches.http_client.errors import (
    ConnectTimeout,
    HandshakeFailed,
    NotConnected,
    Unanswered,
)
from poussetaches.http_client.http_connection import HttpConnection
from poussetaches.http_client.tls import TlsContext, handshake_error

ATTEMPT_DELAY = 0.25  # seconds until the next address is tried, too (RFC 8305, section 8)


class Connector:
    """Opens connections, each within ``timeout`` seconds; a TLS handshake gets as many again."""

    def __init__(self, *, timeout: float, tls: TlsContext, deadlines: DeadlineWheel) -> None:
        self._timeout = timeout
        self._tls = tls
        self._deadlines = deadlines

    async def connect(self, target: Target, addresses: Sequence[str]) -> HttpConnection:
        """Return a connection to the first of the addresses that accepts one (RFC 8305).

        Raises:
            NotConnected: none accepts; the error is that of the last one.
            HandshakeFailed: the server has no TLS, or no certificate that is trusted.
            NoAuthorities: no certificate can be verified.
            Unanswered: the connection was reset at once.
        """
        context = await self._tls.get() if target.scheme == "https" else None
        connected = await connect_socket(addresses, target.port, limit=self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._attach(connected, target, context)
        except TimeoutError:
            raise HandshakeFailed(f"no TLS handshake within {self._timeout:g} s") from None
        except OSError as exc:  # such as SSLError
            if context is None:
                raise Unanswered("the connection was reset without an answer") from None
            reason = handshake_error(exc, host=target.host)
            raise HandshakeFailed(f"no secure connection: {reason}") from None

    async def _attach(
        self, connected: socket.socket, target: Target, context: ssl.SSLContext | None
    ) -> HttpConnection:
        """Return a connection on a connected socket, after the TLS handshake."""
        try:
            address = str(connected.getpeername()[0])
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: HttpConnection(target, address, self._deadlines),
                sock=connected,
                ssl=context,
                server_hostname=None if context is None else target.host.rstrip("."),
            )
        except BaseException:
            connected.close()
            raise
        return connection


async def connect_socket(addresses: Sequence[str], port: int, *, limit: float) -> socket.socket:
    """Return a socket that is connected to the first address that accepts (RFC 8305).

    ``limit``, in seconds, is for all addresses together.

    Raises:
        NotConnected: none accepts.
    """
    try:
        infos = [info for address in addresses for info in _numeric(address, port)]
        async with asyncio.timeout(limit):
            connected = await aiohappyeyeballs.start_connection(
                infos, happy_eyeballs_delay=ATTEMPT_DELAY
            )
    except OSError as exc:
        raise _not_connected(exc, limit) from None
    except RuntimeError as exc:  # uvloop's, for a descriptor that it still uses
        raise NotConnected(str(exc)) from exc
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _numeric(address: str, port: int) -> Sequence[AddrInfoType]:
    """Return what ``getaddrinfo`` returns for an IP address; this does not block."""
    return socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    )


def _not_connected(exc: OSError, limit: float) -> NotConnected:
    if isinstance(exc, socket.gaierror):
        return NotConnected(exc.strerror or "its address is invalid")
    if exc.errno is not None:
        return NotConnected(os.strerror(exc.errno), exc.errno)
    if isinstance(exc, TimeoutError):
        return ConnectTimeout(f"no connection within {limit:g} s")
    return NotConnected("none of its addresses accepts a connection")
