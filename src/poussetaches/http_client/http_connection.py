"""``HttpConnection``: one connection to a server, for one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from poussetaches.core.target import Target
from poussetaches.http_client.body_stream import BodyStream
from poussetaches.http_client.deadline_wheel import DeadlineWheel
from poussetaches.http_client.errors import (
    AnswerTimeout,
    BrokenAnswer,
    RequestFailed,
    Unanswered,
)
from poussetaches.http_client.response_reader import Response, ResponseReader


class HttpConnection(asyncio.Protocol):
    """A connection. ``on_close`` is called if it ends while it is idle.

    A request whose future is given up must be ended by ``abort``.
    """

    def __init__(self, target: Target, address: str, deadlines: DeadlineWheel) -> None:
        self.target = target
        self.address = address
        self.idle_since = 0.0  # in the event loop's time
        self.slot = 0  # of its deadline
        self._deadlines = deadlines
        self.on_close: Callable[[HttpConnection], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._reader = ResponseReader()
        self._waiter: asyncio.Future[Response] | None = None  # of the current request
        self._stream: BodyStream | None = None
        self._has_deadline = False

    @property
    def is_reusable(self) -> bool:
        """Whether another request can be sent."""
        transport = self._transport
        # The whole request must have been sent: a response may arrive before that.
        has_sent_all = transport.get_write_buffer_size() == 0
        return self._reader.is_reusable and has_sent_all and not transport.is_closing()

    def request(
        self, data: bytes, *, method: str, limit: int, ends_at: float
    ) -> asyncio.Future[Response]:
        """Send a request; return its response, with at most ``limit`` bytes of the body.

        The future's exception is ``Unanswered``, ``BrokenAnswer``, or ``AnswerTimeout`` at
        ``ends_at`` of the event loop's time.
        """
        self._reader.begin(method=method, limit=limit)
        self._waiter = waiter = self._loop.create_future()
        self._deadlines.add(ends_at, self)
        self._has_deadline = True
        self._transport.write(data)
        return waiter

    def stream(self, data: bytes, *, method: str) -> tuple[asyncio.Future[Response], BodyStream]:
        """Send a request; return the head of its response, and the body in pieces."""
        self._stream = stream = BodyStream(self._transport)
        self._reader.begin(method=method, sink=stream.feed)
        self._waiter = waiter = self._loop.create_future()
        self._transport.write(data)
        return waiter, stream

    def close(self) -> None:
        """Close the idle connection."""
        self.on_close = None
        self._transport.close()

    def abort(self) -> None:
        """Close the connection now, and give up its request."""
        self._end_request()
        self._transport.abort()

    def time_out(self) -> None:
        """End the request: its deadline has passed."""
        self._has_deadline = False
        response = self._reader.response
        self._fail(
            AnswerTimeout("no answer in time", None if response is None else response.status)
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if self._waiter is None:  # no request awaits a response
            self._close()
            return
        try:
            reader.feed(data)
        except BrokenAnswer as exc:
            self._fail(exc)
            return
        if reader.is_complete or self._stream is not None:
            self._deliver()

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)

    def _deliver(self) -> None:
        """Return the response, or the parts of it that were read."""
        waiter, stream, response = self._waiter, self._stream, self._reader.response
        assert waiter is not None
        if response is None:
            return
        if self._reader.is_complete:
            self._end_request()
            if not self._reader.is_reusable:
                self._close()
            if stream is not None:
                stream.finish()
        if not waiter.done():
            waiter.set_result(response)

    def _ended(self, exc: Exception | None) -> None:
        """Handle the end of the connection: the peer closed or reset it."""
        if self._waiter is None:
            self._close()
        elif not self._reader.has_begun:
            self._fail(Unanswered(_reason_of(exc, "without an answer")))
        else:
            try:
                if exc is not None:
                    raise self._reader.broken(_reason_of(exc, "before the answer was complete"))
                self._reader.end()
            except BrokenAnswer as broken:
                self._fail(broken)
            else:
                self._deliver()

    def _fail(self, error: RequestFailed) -> None:
        waiter, stream = self._waiter, self._stream
        self._close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        elif stream is not None:
            stream.fail(error)

    def _end_request(self) -> None:
        self._waiter = self._stream = None
        if self._has_deadline:
            self._has_deadline = False
            self._deadlines.remove(self)

    def _close(self) -> None:
        self._end_request()
        self._transport.abort()
        if self.on_close is not None:
            on_close, self.on_close = self.on_close, None
            on_close(self)


def _reason_of(exc: Exception | None, when: str) -> str:
    verb = "reset" if isinstance(exc, ConnectionResetError) else "closed"
    return f"the connection was {verb} {when}"
