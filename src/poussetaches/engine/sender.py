"""Sends the requests of attempts. Every result of the network is an outcome, not an exception."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Protocol

from poussetaches.core.cause import Cause
from poussetaches.core.moment import Moment
from poussetaches.core.target import Target, parse_target
from poussetaches.core.task import Outcome
from poussetaches.engine.answer import MAX_BODY, Answer, outcome_of
from poussetaches.engine.connection_outcomes import (
    answer_timeout,
    not_connected,
    not_verifiable,
    restarted,
)
from poussetaches.engine.request import Request
from poussetaches.engine.resolver import LookupFailed, Resolver
from poussetaches.engine.secret_mask import SecretMask
from poussetaches.http_client.connector import connect_socket
from poussetaches.http_client.errors import (
    AnswerTimeout,
    BrokenAnswer,
    HandshakeFailed,
    InvalidRequest,
    NoAuthorities,
    NotConnected,
    RequestFailed,
    Unanswered,
)
from poussetaches.http_client.http_client import HttpClient, HttpRequest

# Servers close idle connections after 2 s (gunicorn) or 5 s (uvicorn); ours are closed first.
IDLE_CONNECTION = 1.5  # seconds
MOST_IDLE = 3072  # room for a thousand attempts per second to as many applications
# An attempt whose name is not resolved in time gives up its slot: the origin is held, and a probe
# waits for the DNS instead.
LOOKUP_LIMIT = 2.0  # seconds


class Sender(Protocol):
    """Makes attempts."""

    async def send(self, request: Request) -> Outcome:
        """Make one attempt. Every result of the network is an outcome; exceptions are defects."""

    async def probe(self, origin: str) -> Outcome | None:
        """Connect to an origin and hang up; return the outcome of a failure, or None."""

    async def close(self) -> None:
        """Close all connections."""


class HttpSender:
    """Makes attempts over HTTP: no redirects, no proxies, no decompression.

    ``secret_mask`` hides secrets in answers. At most ``most_idle`` connections are kept between
    attempts. ``on_repeat`` is called when a request is sent again, because its idle connection
    was closed.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        now: Callable[[], Moment],
        secret_mask: SecretMask | None = None,
        resolver: Resolver | None = None,
        most_idle: int = MOST_IDLE,
        on_repeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._now = now
        self._secret_mask = secret_mask or SecretMask()
        self._resolver = Resolver() if resolver is None else resolver
        self._client = HttpClient(
            connect_timeout=connect_timeout,
            idle_time=IDLE_CONNECTION,
            most_idle=most_idle,
            on_repeat=on_repeat,
        )

    def send(self, request: Request) -> Coroutine[None, None, Outcome]:
        return self.send_to(request, None)

    async def send_to(self, request: Request, addresses: Sequence[str] | None) -> Outcome:
        """Make one attempt, at some addresses only; None looks up the host."""
        target = parse_target(request.url)
        limit = min(LOOKUP_LIMIT, self._connect_timeout, request.timeout)
        try:
            response = await self._client.request(
                HttpRequest.of(request.method, request.url, request.headers, request.body),
                # Read beyond the cut, so that a secret across it is seen whole.
                limit=MAX_BODY + self._secret_mask.margin + 1,
                timeout=request.timeout,
                addresses=partial(self._addresses, target.host, addresses, limit),
                allowed=addresses,
            )
        except Unanswered as exc:
            return await self._unanswered(target, addresses, exc)
        except AnswerTimeout as exc:
            return answer_timeout(request.timeout, status=exc.status)
        except LookupFailed as exc:
            return exc.outcome
        except RequestFailed as exc:
            return self._failed(target, exc)
        answer = Answer(response.status, response.header, response.body)
        return outcome_of(answer, url=request.url, now=self._now(), secret_mask=self._secret_mask)

    async def probe(self, origin: str) -> Outcome | None:
        return await self.probe_at(parse_target(origin), None)

    async def probe_at(self, target: Target, addresses: Sequence[str] | None) -> Outcome | None:
        """Connect to some addresses, None for those of the host, and hang up."""
        try:
            found = await self._addresses(target.host, addresses, self._connect_timeout)
            connected = await connect_socket(found, target.port, limit=self._connect_timeout)
        except LookupFailed as exc:
            return exc.outcome
        except NotConnected as exc:
            return self._failed(target, exc)
        connected.close()
        return None

    def trust_problem(self) -> str | None:
        """Return why no https target can be reached; None if nothing is wrong."""
        problem = self._client.tls.problem()
        return None if problem is None else not_verifiable(problem).error

    async def close(self) -> None:
        self._client.close()

    async def _addresses(
        self, host: str, addresses: Sequence[str] | None, limit: float
    ) -> Sequence[str]:
        if addresses is not None:
            return addresses
        return await self._resolver.addresses(host, limit=limit)

    async def _unanswered(
        self, target: Target, addresses: Sequence[str] | None, exc: Unanswered
    ) -> Outcome:
        """Return the outcome of a request whose connection ended before any byte of an answer.

        An application that refuses the next connection is being restarted.
        """
        outcome = await self.probe_at(target, addresses)
        if outcome is not None and outcome.unreachable:
            return restarted(str(exc))
        return Outcome(error=str(exc), cause=Cause.CONNECTION_LOST)

    def _failed(self, target: Target, exc: RequestFailed) -> Outcome:
        match exc:
            case InvalidRequest():
                error = f"the request cannot be made: {exc}"
                return Outcome(error=error, cause=Cause.INVALID_REQUEST)
            case NotConnected():
                outcome = not_connected(exc)
                if outcome.unreachable:
                    self._resolver.expire(target.host)
                return outcome
            case HandshakeFailed():
                return Outcome(error=str(exc), cause=Cause.TLS_FAILED)
            case NoAuthorities():
                return not_verifiable(str(exc))
            case BrokenAnswer():
                return Outcome(status=exc.status, error=str(exc), cause=Cause.CONNECTION_LOST)
        raise AssertionError(exc)
