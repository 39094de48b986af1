"""Two servers in the same state: one answers pushes directly, the other all requests over ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from functools import partial
from pathlib import Path
from typing import Any

from poussetaches.api.auth import Tokens
from poussetaches.api.direct_push import DirectPush, Reply
from poussetaches.api.push_handler import Headers
from poussetaches.server.endpoints import DIALECTS
from poussetaches.server.http_server import HttpServer
from tests.factories import seeded
from tests.fakes import FakeClock, ScriptedSender, let_run
from tests.integration.asgi import request
from tests.integration.service import Service

# Ends a connection that is still open.
LAST = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_DATE = re.compile(rb"date: [^\r]*\r\n")


class CountedPush(DirectPush):
    """Counts the pushes that were answered directly."""

    def __init__(self, push: DirectPush) -> None:
        self._push = push
        self.count = 0

    def answer(self, headers: Headers, peer: str | None, body: bytes, reply: Reply) -> None:
        self.count += 1
        self._push.answer(headers, peer, body, reply)


class Way:
    """A service with its own server at a Unix socket."""

    def __init__(self, service: Service, path: Path, *, is_direct: bool) -> None:
        self.service = service
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        pushes = {key: CountedPush(push) for key, push in service.app.pushes.items()}
        self._pushes = pushes if is_direct else {}
        self._server = HttpServer(
            service.app, self._listener, pushes=lambda: self._pushes, dialects=DIALECTS
        )

    @classmethod
    async def opened(cls, path: Path, *, is_direct: bool, tokens: Tokens | None) -> Way:
        opened = partial(
            Service.opened, None, clock=FakeClock(), sender=ScriptedSender(), random=seeded()
        )
        if tokens is None:
            service = await opened()
        else:
            service = await opened(
                POUSSETACHES_API_TOKEN=tokens.api, POUSSETACHES_READ_TOKEN=tokens.read or ""
            )
        way = cls(service, path, is_direct=is_direct)
        await way._server.start()
        return way

    @property
    def direct_count(self) -> int:
        """The number of pushes that were answered directly."""
        return sum(push.count for push in self._pushes.values())

    async def send(self, *pieces: bytes) -> bytes:
        """Send bytes over a new connection, and return the responses without their dates."""
        loop = asyncio.get_running_loop()
        received = b""
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await loop.sock_connect(client, str(self._path))
            with contextlib.suppress(OSError):  # the server closed it
                for piece in (*pieces, LAST):
                    await loop.sock_sendall(client, piece)
                    await let_run()
                client.shutdown(socket.SHUT_WR)  # it may be part of an unfinished request
            with contextlib.suppress(ConnectionError):  # before it had read everything
                while piece := await loop.sock_recv(client, 1 << 16):
                    received += piece
        return _DATE.sub(b"", received)

    async def close(self) -> None:
        await self._server.stop()
        await self.service.close()


class BothWays:
    """Sends the same bytes both ways."""

    def __init__(self, folder: Path, tokens: Tokens | None = None) -> None:
        self._runner = asyncio.Runner()
        self._direct, self._ordinary = (
            self._runner.run(Way.opened(folder / name, is_direct=name == "d", tokens=tokens))
            for name in ("d", "o")
        )

    @property
    def direct_count(self) -> int:
        """The number of pushes that were answered directly."""
        return self._direct.direct_count

    def send(self, *pieces: bytes) -> bytes:
        """Return the responses, which are the same both ways."""
        direct = self._runner.run(self._direct.send(*pieces))
        ordinary = self._runner.run(self._ordinary.send(*pieces))
        assert direct == ordinary
        return direct

    def description(self) -> Any:
        """Return the OpenAPI document."""
        return self._runner.run(request(self._direct.service.app, "GET", "/openapi.json")).json

    def close(self) -> None:
        for way in (self._direct, self._ordinary):
            self._runner.run(way.close())
        self._runner.close()
