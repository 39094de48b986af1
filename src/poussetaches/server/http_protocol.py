"""``HttpProtocol``: one connection to the API, from any client, well-behaved or not.

Requests go to the ASGI application one after another. Pushes go to the store without ASGI, and
several may be there at once. Responses are sent in the order of the requests. Requests that HTTP
does not allow are refused in the dialect of their path, like all refused requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from starlette.responses import Response
from starlette.types import ASGIApp

from poussetaches.api.dialect import Dialects
from poussetaches.api.direct_push import DirectPush, DirectPushes
from poussetaches.api.problems import Problem
from poussetaches.api.request_body import MAX_DISCARDED
from poussetaches.server.client_transport import ClientTransport
from poussetaches.server.connection_limits import Patience
from poussetaches.server.connection_registry import ConnectionRegistry
from poussetaches.server.http_exchange import HttpExchange
from poussetaches.server.http_refusals import not_http, too_many_connections, too_slow
from poussetaches.server.http_response import render_response
from poussetaches.server.request_parser import ParsedHead, RequestParser

MOST_IN_A_ROW = 64  # requests that may wait behind the current one
HIGH_WATER = 16 * 1024  # unread bytes of each client that patience does not count
LONGEST_DIRECT = 64 * 1024  # bytes of a body; longer ones go through ASGI

log = logging.getLogger(__name__)


class DirectExchange:
    """A push that is answered without ASGI, and its response once there is one."""

    __slots__ = ("keep_alive", "response")

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.response: Response | None = None


class HttpProtocol(asyncio.Protocol):
    """A connection that answers requests in order, and enforces the limits."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        pushes: Callable[[], DirectPushes],
        dialects: Dialects,
        patience: Patience,
        registry: ConnectionRegistry,
    ) -> None:
        self.age = 0  # checks since it last made progress
        self._app = app
        self._pushes = pushes
        self._dialects = dialects
        self._patience = patience
        self._registry = registry
        self._parser = RequestParser(self)
        self._transport: ClientTransport
        self._client: tuple[str, int | None] | None = None
        self._server: tuple[str, int | None] | None = None
        # Requests without a complete response. The first is being answered, and all direct pushes
        # in front are being stored.
        self._pending: deque[HttpExchange | DirectExchange] = deque()
        self._head: ParsedHead | None = None  # of a request that has not begun
        self._push: DirectPush | None = None  # the endpoint of that request, if it is a push
        self._scope: dict[str, Any] | None = None  # of that request, if it is not
        self._body: list[bytes] = []  # of that request
        self._receiving: HttpExchange | None = None  # its body is incomplete
        self._is_feeding = False  # the parser
        self._is_ending = False  # everything else that arrives is discarded
        self._discarded = 0  # bytes

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has another base class.
        self._transport = ClientTransport(
            cast(asyncio.Transport, transport), high_water=HIGH_WATER
        )
        self._client = _address_of(transport.get_extra_info("peername"))
        self._server = _address_of(transport.get_extra_info("sockname"))
        self._registry.opened(self)
        self._patience.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        for exchange in self._pending:
            if isinstance(exchange, HttpExchange):
                exchange.disconnect()
        self._pending.clear()
        self._transport.resume_writing()
        self._parser.close()
        self._registry.closed(self)
        self._patience.went(self)

    def pause_writing(self) -> None:
        self._transport.pause_writing()
        self._patience.stalled(self)

    def resume_writing(self) -> None:
        self.age = 0
        self._patience.resumed(self)
        self._transport.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            self._discard(data)
            return
        self._is_feeding = True
        try:
            self._parser.feed(data)
            if self._head is not None:
                self._receiving = self._begin(self._head)  # the rest of its body is to come
        except Problem as problem:
            self._refuse(problem)
        finally:
            self._is_feeding = False
        self._send_replies()

    # Called by the parser

    def head_received(self, head: ParsedHead) -> None:
        if self._pending and not self._pending[-1].keep_alive:
            raise not_http("it follows a request with Connection: close")
        if len(self._pending) > MOST_IN_A_ROW:
            raise not_http(f"more than {MOST_IN_A_ROW} pipelined requests are pending")
        self._push = self._pushes().get((head.method, head.target))
        self._scope = head.scope() if self._push is None else None
        self.age = 0
        self._head = head

    def body_received(self, piece: bytes) -> None:
        if self._head is not None:
            self._body.append(piece)
        elif self._receiving is not None:
            self._receiving.add_body(piece)

    def request_received(self) -> None:
        if self._receiving is not None:
            self._receiving.end_body()
            self._receiving = None
        elif self._head is not None and not self._answer_push(self._head):
            self._begin(self._head).end_body()

    # Called by Patience and ConnectionRegistry

    @property
    def waits_for_client(self) -> bool:
        """Return whether only the client can make progress on this connection."""
        if self.unread or not self._pending:
            return True
        first = self._pending[0]
        return isinstance(first, HttpExchange) and first.waits_for_client

    @property
    def is_idle(self) -> bool:
        """Return whether no request has begun."""
        return not (self._parser.is_in_head or self._pending or self._receiving)

    @property
    def unread(self) -> int:
        """Bytes of responses that the client has not read yet."""
        return self._transport.unsent

    def give_up(self) -> None:
        """Close a connection whose client took too long."""
        if self._is_ending or not (self._parser.is_in_head or self._pending):
            self._transport.close()
            return
        self._refuse(too_slow())

    def turn_away(self) -> None:
        """Refuse a new connection: there are too many."""
        self._refuse(too_many_connections())

    def abort(self) -> None:
        """Close the connection now; unsent data is lost."""
        self._transport.abort()

    def shut_down(self) -> None:
        """Close the connection after the last response that is due."""
        if self._pending:
            self._pending[-1].keep_alive = False
        else:
            self._transport.close()

    def _begin(self, head: ParsedHead) -> HttpExchange:
        """Begin to answer a request over ASGI, or queue it behind earlier ones."""
        scope = self._scope or head.scope()
        scope |= {"client": self._client, "server": self._server}
        exchange = HttpExchange(
            self._transport,
            head,
            scope,
            refusal=self._dialects.refusal,
            completed=self._complete,
        )
        for piece in self._body:
            exchange.add_body(piece)
        self._drop_head()
        self._pending.append(exchange)
        if len(self._pending) == 1:
            self._registry.run(exchange.run(self._app))
        else:
            self._transport.pause_reading()
        return exchange

    def _answer_push(self, head: ParsedHead) -> bool:
        """Answer a push without ASGI; return False for any other request, and unusual pushes."""
        if (
            self._push is None
            or head.expects_continue
            or not self._transport.is_writable
            or (self._pending and not isinstance(self._pending[-1], DirectExchange))
        ):
            return False
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if len(body) > LONGEST_DIRECT:
            return False
        self._drop_head()
        exchange = DirectExchange(keep_alive=head.keep_alive)
        self._pending.append(exchange)
        if len(self._pending) > 1:
            self._transport.pause_reading()
        peer = None if self._client is None else self._client[0]
        self._push.answer(head.headers, peer, body, partial(self._reply, exchange))
        return True

    def _drop_head(self) -> None:
        """Forget the request that has not begun."""
        self._head = None
        self._body = []

    def _complete(self) -> None:
        """Continue after the complete response to the first request."""
        exchange = self._pending.popleft()
        if exchange.keep_alive:
            self._continue()
        else:
            self._transport.close()

    def _reply(self, exchange: DirectExchange, response: Response) -> None:
        exchange.response = response
        if not self._is_feeding:
            self._send_replies()

    def _send_replies(self) -> None:
        """Send the responses to pushes, up to the first request that has none yet."""
        has_sent = False
        while self._pending and not self._transport.is_closing:
            first = self._pending[0]
            if not isinstance(first, DirectExchange) or first.response is None:
                break
            self._pending.popleft()
            self._send(first.response, keep_alive=first.keep_alive)
            if not first.keep_alive:
                self._transport.close()
                return
            has_sent = True
        if has_sent:
            self._continue()

    def _send(self, response: Response, *, keep_alive: bool) -> None:
        try:
            data = render_response(response, keep_alive=keep_alive)
        except ValueError as exc:
            log.error("request failed", exc_info=exc)
            self.abort()
            return
        if self._pending:
            self._transport.write(data)
        else:
            self._transport.send(data)

    def _continue(self) -> None:
        """Continue with the next request after a response."""
        self.age = 0
        if len(self._pending) <= 1:
            self._transport.resume_reading()
        if not self._pending:
            self._transport.flush()
        elif isinstance(self._pending[0], HttpExchange):
            self._registry.run(self._pending[0].run(self._app))

    def _refuse(self, problem: Problem) -> None:
        """Refuse the current request after earlier responses, and close the connection."""
        if self._is_ending:
            return
        log.debug("request refused", extra={"reason": problem.detail})
        self._is_ending = True
        self._drop_head()
        if self._pending and self._pending[-1] is self._receiving:
            exchange = self._pending.pop()
            assert isinstance(exchange, HttpExchange)
            if exchange.has_begun:
                self._transport.close()
                return
            exchange.disconnect()
        if self._pending:
            self._pending[-1].keep_alive = False  # earlier requests get their responses
            return
        response = self._dialects.refusal(self._parser.path, problem)
        self._transport.write(render_response(response, keep_alive=False))
        # Closing with unread data would reset the connection, and discard the response.
        self._transport.close_writing()
        self._transport.resume_reading()
        self._patience.refused(self)

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > MAX_DISCARDED:
            self._transport.close()


def _address_of(name: object) -> tuple[str, int | None] | None:
    """Return the address of a socket for ASGI; None if it has no name."""
    if isinstance(name, tuple):
        return str(name[0]), int(name[1])
    return (name, None) if isinstance(name, str) and name else None
