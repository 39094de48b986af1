"""Blocking connections to the server: urllib3's, with a deadline for each request.

The timeouts of sockets count from the last byte, so a server that drips bytes would outlast
them. Here each call has a moment at which it is over, and every step gets what is left.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, Any

from urllib3 import BaseHTTPResponse, HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError

from poussetaches.client.address import Address
from poussetaches.client.call import Call
from poussetaches.client.connection_errors import (
    broken,
    no_secure_connection,
    not_http,
    not_reached,
    too_late,
)
from poussetaches.client.errors import ClientError
from poussetaches.client.server_answer import Answer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Idle connections are not limited: there are at most as many as concurrent threads. With a limit,
# urllib3 logs a warning for each connection that it drops.
UNLIMITED = 0
CHUNK_SIZE = 65_536  # bytes


class Deadline(threading.local):
    """The end of the request that this thread sends."""

    at = 0.0

    def begin(self, seconds: float) -> None:
        """Set the deadline to so many seconds from now."""
        self.at = time.monotonic() + seconds

    def left(self) -> float:
        """Return the remaining seconds.

        Raises:
            TimeoutError: none remain.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class Connections:
    """Sends requests over connections that are reused."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._deadline = Deadline()
        self._pool = _Pool(address, self._deadline)

    def send(self, call: Call, *, timeout: float) -> Answer:
        self._deadline.begin(timeout)
        with self._response(call, timeout) as response:
            headers = _headers(response)
            # In chunks: a wrong Content-Length would reserve as much memory.
            body = b"".join(response.stream(CHUNK_SIZE))
            return Answer(response.status, headers, body, self._address.shown_url)

    @contextmanager
    def stream(self, call: Call, *, silence: float) -> Iterator[_Stream]:
        self._deadline.begin(silence)
        with self._response(call, silence) as response:
            head = Answer(response.status, _headers(response), b"", self._address.shown_url)
            yield _Stream(head, response, self._deadline, silence)

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def _response(self, call: Call, timeout: float) -> Iterator[BaseHTTPResponse]:
        address = self._address
        headers = {
            **address.headers(call.content_type),
            "Host": address.authority,
            **dict(call.headers),
        }
        try:
            response = self._pool.urlopen(
                call.method,
                address.prefix + call.target or "/",
                body=call.body,
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError) as exc:
            raise _no_answer(address, exc, timeout) from exc
        try:
            yield response
        except (HTTPError, OSError) as exc:
            raise _no_answer(address, exc, timeout) from exc
        finally:
            # A complete response has returned its connection; an incomplete one cannot be reused.
            response.close()


class _Stream:
    """An answer that arrives in pieces, at most ``silence`` seconds apart."""

    def __init__(
        self, head: Answer, response: BaseHTTPResponse, deadline: Deadline, silence: float
    ) -> None:
        self.head = head
        self._response = response
        self._deadline = deadline
        self._silence = silence

    def pieces(self) -> Iterator[bytes]:
        while True:
            self._deadline.begin(self._silence)
            piece = self._response.read1(CHUNK_SIZE)
            if not piece:
                return
            yield piece


class _Pool(HTTPConnectionPool):
    """Pools connections to the server, over TCP, TLS or a Unix socket."""

    def __init__(self, address: Address, deadline: Deadline) -> None:
        super().__init__(address.host, address.port, timeout=None, maxsize=UNLIMITED)
        context = ssl.create_default_context() if address.scheme == "https" else None

        class Connection(HTTPConnection):
            def connect(self) -> None:
                try:
                    connected = _connect(address, context, deadline)
                except OSError as exc:
                    raise _NotConnected(exc) from exc
                self.sock = _DeadlineSocket(connected, deadline)

        self.ConnectionCls = Connection


class _NotConnected(OSError):
    """No connection was made, because of ``cause``."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _DeadlineSocket:
    """A socket whose operations end at the deadline, even if another timeout is set."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def settimeout(self, seconds: float | None) -> None:
        """Do nothing: the deadline decides."""

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(self._deadline.left())
            rest = rest[self._sock.send(rest) :]

    def makefile(self, mode: str, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineFile(self._sock, self._deadline))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _DeadlineFile(io.RawIOBase):
    """Reads from a socket until the deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        # Keeps the socket open until the answer is read, even after the connection is closed.
        self._file = sock.makefile("rb", 0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._sock.settimeout(self._deadline.left())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _connect(
    address: Address, context: ssl.SSLContext | None, deadline: Deadline
) -> socket.socket:
    """Connect a socket to the server.

    Raises:
        OSError: no connection was made within the deadline.
    """
    if address.socket is not None:
        return _dial(socket.AF_UNIX, address.socket, deadline)
    error: OSError | None = None
    for family, _, _, _, to in socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    ):
        try:
            sock = _dial(family, to, deadline)
        except OSError as exc:
            error = exc
            continue
        # Head and body are two writes: Nagle's algorithm would delay the second one.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock if context is None else _wrap_tls(sock, context, address.host, deadline)
    raise error or OSError("the server's name has no address")


def _dial(family: int, to: Any, deadline: Deadline) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(deadline.left())
        sock.connect(to)
    except OSError:
        sock.close()
        raise
    return sock


def _wrap_tls(
    sock: socket.socket, context: ssl.SSLContext, host: str, deadline: Deadline
) -> socket.socket:
    try:
        sock.settimeout(deadline.left())
        return context.wrap_socket(sock, server_hostname=host)
    except OSError:
        sock.close()
        raise


def _headers(response: BaseHTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _no_answer(address: Address, exc: Exception, timeout: float) -> ClientError:
    url = address.shown_url
    # urllib3's message is the repr of a tuple; the exception in it has the reason.
    match next((cause for cause in exc.args if isinstance(cause, Exception)), exc):
        case _NotConnected() as failed:
            return _not_connected(address, failed.cause, timeout)
        case TimeoutError() | ReadTimeoutError():
            return too_late(url, timeout)
        case IncompleteRead():
            return broken(url, "the connection was closed before it was complete")
        case HTTPException() as foreign if not isinstance(foreign, ConnectionError):
            return not_http(url, repr(foreign))
        case other:
            return broken(url, other)


def _not_connected(address: Address, cause: OSError, timeout: float) -> ClientError:
    url = address.shown_url
    if isinstance(cause, TimeoutError):
        return too_late(url, timeout)
    if not isinstance(cause, ssl.SSLError):
        return not_reached(url, cause)
    # Here, because it imports asyncio: 50 ms.
    from poussetaches.http_client.tls import handshake_error  # noqa: PLC0415

    reason = handshake_error(cause, host=address.host)
    return no_secure_connection(url, f"no secure connection: {reason}")
