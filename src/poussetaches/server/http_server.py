"""The configuration of uvicorn."""

from __future__ import annotations

import socket
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from poussetaches.api.dialect import V1_ONLY, Dialects
from poussetaches.server.connection_limits import Patience
from poussetaches.server.descriptors import MOST_CONNECTIONS
from poussetaches.server.http_protocol import HttpProtocol
from poussetaches.server.listener import BACKLOG, address_of

IDLE_CONNECTION = 75  # seconds; longer than clients keep theirs, so that they close first
CONNECTIONS_END = 5  # seconds for requests in progress when the server stops


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers, and without its ten wake-ups a second."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        patience: Patience | None = None,
        dialects: Dialects = V1_ONLY,
    ) -> None:
        self._patience = patience or Patience(most=MOST_CONNECTIONS)
        protocol = partial(HttpProtocol, patience=self._patience, dialects=dialects)
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                loop="none",
                # uvicorn's type is a class; it accepts every factory of protocols.
                http=protocol,  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,  # the client address, which is logged, must not be forged
                backlog=BACKLOG,
                timeout_keep_alive=IDLE_CONNECTION,
                timeout_graceful_shutdown=CONNECTIONS_END,
            )
        )
        self._listener = listener

    @property
    def address(self) -> str:
        """The address that it listens on."""
        return address_of(self._listener)

    async def start(self) -> None:
        """Start accepting connections."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[self._listener])

    async def stop(self) -> None:
        """Stop accepting connections, and wait for requests in progress."""
        await self.shutdown(sockets=[self._listener])
        self._patience.close()
