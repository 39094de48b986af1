"""Failed requests, by what is known of them when they fail."""

from __future__ import annotations

NO_TLS = "the port does not answer in TLS"


class RequestFailed(Exception):
    """A request got no complete answer; the text says why."""


class InvalidRequest(RequestFailed):
    """The request cannot be written as HTTP."""


class NotConnected(RequestFailed):
    """No connection was made, so nothing was sent. ``number`` is the system's error number."""

    def __init__(self, reason: str, number: int | None = None) -> None:
        super().__init__(reason)
        self.number = number


class ConnectTimeout(NotConnected):
    """No connection was made in time."""


class HandshakeFailed(RequestFailed):
    """The TLS handshake failed or took too long, so nothing was sent."""


class Unanswered(RequestFailed):
    """The connection was closed before the first byte of an answer."""


class BrokenAnswer(RequestFailed):
    """The answer was not HTTP, or ended too early. ``status`` is known if its head was read."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class NotHttp(BrokenAnswer):
    """The answer was not HTTP: another program listens there."""


class NoAuthorities(RequestFailed):
    """No certificate authority can be read, so no https server can be verified."""


class AnswerTimeout(BrokenAnswer):
    """The answer was not complete in time."""
