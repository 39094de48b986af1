"""``HttpServer``: listens for connections and serves an application on them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from starlette.types import ASGIApp

from poussetaches.api.dialect import V1_ONLY, Dialects
from poussetaches.api.direct_push import DirectPushes
from poussetaches.server.connection_limits import Patience
from poussetaches.server.connection_registry import ConnectionRegistry
from poussetaches.server.descriptors import MOST_CONNECTIONS
from poussetaches.server.http_protocol import HttpProtocol
from poussetaches.server.listener import BACKLOG, address_of

CONNECTIONS_END = 5  # seconds for requests in progress when the server stops


class HttpServer:
    """Serves an ASGI application at a listening socket.

    ``pushes`` returns the endpoints that are answered without ASGI, at present.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        pushes: Callable[[], DirectPushes] = dict,
        patience: Patience | None = None,
        dialects: Dialects = V1_ONLY,
    ) -> None:
        self._listener = listener
        self._patience = patience or Patience(most=MOST_CONNECTIONS)
        self.registry = ConnectionRegistry()
        self._new_connection = partial(
            HttpProtocol,
            app,
            pushes=pushes,
            dialects=dialects,
            patience=self._patience,
            registry=self.registry,
        )
        self._server: asyncio.Server

    @property
    def address(self) -> str:
        """The address that it listens on."""
        return address_of(self._listener)

    async def start(self) -> None:
        """Start accepting connections."""
        self._server = await asyncio.get_running_loop().create_server(
            self._new_connection, sock=self._listener, backlog=BACKLOG
        )

    async def stop(self) -> None:
        """Stop accepting connections, and wait for requests in progress."""
        self._server.close()
        self._listener.close()
        await self.registry.end(CONNECTIONS_END)
        self._patience.close()
