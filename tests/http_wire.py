"""Connections to an application without sockets."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.types import ASGIApp

from poussetaches.api.app import App
from poussetaches.api.dialect import V1_ONLY
from poussetaches.server.connection_limits import Patience
from poussetaches.server.connection_registry import ConnectionRegistry
from poussetaches.server.http_protocol import HttpProtocol

PATH = "/v1/tasks"


class Wire(asyncio.Transport):
    """A transport without a socket, which records its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.reads = True
        self.end = ""
        self.protocol: HttpProtocol

    @property
    def sent(self) -> bytes:
        """All bytes."""
        return b"".join(self.writes)

    @property
    def statuses(self) -> list[int]:
        """The statuses of all responses."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.sent)]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def write_eof(self) -> None:
        self.end = "half closed"

    def close(self) -> None:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")

    def is_closing(self) -> bool:
        return self.end in {"closed", "aborted"}

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("10.0.0.1", 5000), "sockname": ("10.0.0.2", 80)}.get(name, default)

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def _end(self, how: str) -> None:
        if not self.is_closing():
            self.end = how
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class Server:
    """Connections to an application, without sockets."""

    def __init__(self, app: ASGIApp) -> None:
        self.registry = ConnectionRegistry()
        self.patience = Patience(most=10, longest=3, longest_idle=2)
        self._app = app

    def connect(self) -> Wire:
        """Return a new connection."""
        pushes = self._app.pushes if isinstance(self._app, App) else {}
        wire = Wire()
        wire.protocol = HttpProtocol(
            self._app,
            pushes=lambda: pushes,
            dialects=V1_ONLY,
            patience=self.patience,
            registry=self.registry,
        )
        wire.protocol.connection_made(wire)
        return wire


def post(body: bytes, *lines: bytes, path: str = PATH, version: str = "1.1") -> bytes:
    first = f"POST {path} HTTP/{version}".encode()
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([first, b"Host: localhost", length, *lines, b"", body])


def get(path: str = "/hello", *lines: bytes, version: str = "1.1") -> bytes:
    first = f"GET {path} HTTP/{version}".encode()
    return b"\r\n".join([first, b"Host: localhost", *lines, b"", b""])


def ask(wire: Wire, *requests: bytes) -> None:
    wire.protocol.data_received(b"".join(requests))
