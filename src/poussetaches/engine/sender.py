"""Sends the request of an attempt. Every result of the network is an outcome, not an exception.

The client's exceptions are too coarse (a receiver that never answers is a "connect timeout"), so
the outcome is derived from the causes that they list.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import NamedTuple, Protocol

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, DetailedPyreqwestError
from pyreqwest.response import Response

from poussetaches.core.cause import Cause
from poussetaches.core.moment import Moment
from poussetaches.core.target import Target, parse_target
from poussetaches.core.task import Outcome
from poussetaches.engine.answer import MAX_BODY, Answer, outcome_of
from poussetaches.engine.connection import (
    EXHAUSTED,
    answer_timeout,
    connect,
    connection_timeout,
    is_out_of_descriptors,
    not_connected,
    out_of_resources,
)
from poussetaches.engine.deadline import Deadline
from poussetaches.engine.request import Request
from poussetaches.engine.resolver import Resolver, unresolved
from poussetaches.engine.secret_mask import SecretMask

# Servers close idle connections after 2 s (gunicorn) or 5 s (uvicorn); one that is used just
# then costs an attempt, so ours are closed first.
IDLE_CONNECTION = timedelta(seconds=1.5)
# An attempt whose name is not resolved in time gives up its slot: the origin is held, and a probe
# waits for the DNS instead.
LOOKUP_LIMIT = 2.0  # seconds

# The client's texts for two common mistakes, and clearer ones.
_CERTIFICATES = {
    "UnknownIssuer": "no authority that the system or SSL_CERT_FILE trusts signed its certificate",
    "CaUsedAsEndEntity": "its certificate is an authority's own (CA:TRUE), and not a server's",
}
# The client's error for more than 100 headers, or more than 408 KiB of them.
_HEAD_TOO_LARGE = "message head is too large"
NO_AUTHORITIES = (
    "no secure connection: no certificate authority is trusted here ({}); install ca-certificates "
    "or correct SSL_CERT_FILE, then restart poussetaches"
)
_OS_ERROR = re.compile(r"\(os error ([0-9]+)\)")  # as Rust writes the system's error numbers
_MEANT_TO_HAVE_BODY = ("POST", "PUT", "PATCH")


class Sender(Protocol):
    """Makes attempts."""

    async def send(self, request: Request) -> Outcome:
        """Make one attempt. Every result of the network is an outcome; exceptions are defects."""

    async def probe(self, origin: str) -> Outcome | None:
        """Connect to an origin and hang up; return the outcome of a failure, or None."""

    async def close(self) -> None:
        """Close all connections."""


class Pin(NamedTuple):
    """A host, and the one address that connections to it are made to."""

    host: str
    address: str


class HttpSender:
    """Makes attempts over HTTP: no redirects, no proxies, no decompression.

    The ``resolver`` looks names up first, so that the client's own lookups end soon. A sender with
    a ``pin`` is for that host alone, whose name is not looked up again. ``secret_mask`` hides
    secrets in answers.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        now: Callable[[], Moment],
        pin: Pin | None = None,
        secret_mask: SecretMask | None = None,
        resolver: Resolver | None = None,
        keeps_idle: bool = True,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._now = now
        self._pin = pin
        self._secret_mask = secret_mask or SecretMask()
        self._resolver = Resolver() if resolver is None else resolver
        self._keeps_idle = keeps_idle
        # It makes no TLS connections, so it skips the authorities, which take 4 ms to read.
        self._plain: Client = self._builder().danger_accept_invalid_certs(True).build()
        self._secure: Client | Outcome | None = None  # made when first needed; or why that failed

    async def send(self, request: Request) -> Outcome:
        begun_at = time.monotonic()
        target = parse_target(request.url)
        client = self._plain if target.scheme == "http" else self._secure_client()
        if isinstance(client, Outcome):
            return client
        try:
            builder = (
                client.request(request.method, request.url)
                .headers(_headers_of(request))
                .body_bytes(request.body)
            )
        except ValueError as exc:
            error = f"the request cannot be made: {exc}"
            return Outcome(error=error, cause=Cause.INVALID_REQUEST)
        if self._pin is None:
            limit = min(LOOKUP_LIMIT, self._connect_timeout, request.timeout)
            found = await self._resolver.addresses(target.host, limit=limit)
            if isinstance(found, Outcome):
                return found
        left = max(0.001, request.timeout - (time.monotonic() - begun_at))
        status: int | None = None
        try:
            # Not the client's own timeout: it ignores data that arrived during a suspension.
            with Deadline(left):
                async with builder.build_streamed() as response:
                    status = response.status
                    return await self._answered(request, response)
        except DetailedPyreqwestError as exc:  # including timeouts while connecting
            return await self._failed(target, exc, status)
        except TimeoutError:
            return answer_timeout(request.timeout, status=status)

    async def probe(self, origin: str) -> Outcome | None:
        target = parse_target(origin)
        host = target.host if self._pin is None else self._pin.address
        found = await self._resolver.addresses(host, limit=self._connect_timeout)
        if isinstance(found, Outcome):
            return found
        outcome = await connect(found, target.port, limit=self._connect_timeout)
        if outcome is not None and outcome.unreachable:
            self._resolver.expire(target.host)
        return outcome

    def trust_problem(self) -> str | None:
        """Return why no https target can be reached; None if nothing is wrong."""
        client = self._secure_client()
        return client.error if isinstance(client, Outcome) else None

    async def close(self) -> None:
        await self._plain.close()
        if isinstance(self._secure, Client):
            await self._secure.close()

    def _builder(self) -> ClientBuilder:
        builder = (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .connect_timeout(timedelta(seconds=self._connect_timeout))
            .pool_idle_timeout(IDLE_CONNECTION)
        )
        if not self._keeps_idle:
            builder = builder.pool_max_idle_per_host(0)
        if self._pin is not None:
            pin = self._pin
            builder = builder.resolve(pin.host, pin.address, 0)  # for any port
        return builder

    def _secure_client(self) -> Client | Outcome:
        """Return the client for https, or the outcome of attempts if it cannot be made."""
        if self._secure is None:
            try:
                self._secure = self._builder().build()
            except BuilderError as exc:
                if is_out_of_descriptors():  # so that the authorities could not be read
                    return out_of_resources("Too many open files")
                reason = (_causes_of(exc) or [str(exc)])[-1].removeprefix("unexpected error: ")
                error = NO_AUTHORITIES.format(reason)
                self._secure = Outcome(error=error, cause=Cause.TLS_FAILED)
        return self._secure

    async def _answered(self, request: Request, response: Response) -> Outcome:
        # Read beyond the cut, so that a secret across it is seen whole.
        found = await response.body_reader.read(MAX_BODY + self._secret_mask.margin + 1)
        answer = Answer(
            response.status,
            partial(_header, response),
            b"" if found is None else found.to_bytes(),
        )
        return outcome_of(answer, url=request.url, now=self._now(), secret_mask=self._secret_mask)

    async def _failed(
        self, target: Target, exc: DetailedPyreqwestError, status: int | None
    ) -> Outcome:
        causes = _causes_of(exc)
        number = _error_number(causes)
        if number in EXHAUSTED and status is None:
            return out_of_resources(causes[-1])
        if "client error (Connect)" in causes and status is None:
            outcome = await self._not_connected(target, causes)
            if outcome is not None:
                return outcome
        if target.scheme == "https" and "client error (Connect)" in causes:
            return Outcome(status=status, error=_tls_error(causes), cause=Cause.TLS_FAILED)
        reason = causes[-1] if causes else str(exc)
        if reason == _HEAD_TOO_LARGE:
            reason = "the answer has more than 100 headers, or a head longer than 400 KiB"
        return Outcome(status=status, error=reason, cause=Cause.CONNECTION_LOST)

    async def _not_connected(self, target: Target, causes: list[str]) -> Outcome | None:
        """Return the outcome if nothing was sent; None if the connection was not at fault."""
        if "dns error" in causes:  # although our own lookup has just found the name
            return unresolved(target.host, causes[-1])
        if "operation timed out" in causes or "deadline has elapsed" in causes:
            # A handshake that hangs looks the same; a connection of our own tells them apart.
            if "tcp connect error" not in causes and target.scheme == "https":
                return await self._handshake_or_connection(target)
            return connection_timeout(self._connect_timeout)
        if any(cause.startswith("tcp ") for cause in causes):
            return not_connected(_error_number(causes), causes[-1])
        return None

    async def _handshake_or_connection(self, target: Target) -> Outcome:
        outcome = await self.probe(target.origin)
        if outcome is not None:
            return outcome
        error = f"no TLS handshake within {self._connect_timeout:g} s"
        return Outcome(error=error, cause=Cause.TLS_FAILED)


def _causes_of(exc: DetailedPyreqwestError) -> list[str]:
    """Return the causes that a client's error lists, the outermost first; there may be none."""
    return [cause["message"] for cause in exc.details.get("causes") or []]


def _error_number(causes: list[str]) -> int | None:
    """Return the number of the system's error among some causes."""
    found = _OS_ERROR.search(causes[-1]) if causes else None
    return None if found is None else int(found[1])


def _headers_of(request: Request) -> dict[str, str]:
    if request.body or request.method not in _MEANT_TO_HAVE_BODY:
        return request.headers
    # The client omits the length of an empty body, but some servers require it (RFC 9110, 8.6).
    return {**request.headers, "Content-Length": "0"}


def _header(response: Response, name: str) -> str:
    try:
        return response.get_header(name) or ""
    except ValueError:  # bytes that are not text: the header is ignored
        return ""


def _tls_error(causes: list[str]) -> str:
    """Return why no secure connection was made; the innermost cause is the most specific."""
    reason = causes[-1]
    for name, words in _CERTIFICATES.items():
        if name in reason:
            reason = words
    return f"no secure connection: {reason}"
