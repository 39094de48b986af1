"""One attempt: send the request, say how it went. Nothing that the network does is an exception.

The client's exceptions do not say enough of themselves (a receiver that never answers is a
"connect timeout" to it): what happened is read from the causes that it lists.
"""

from __future__ import annotations

import asyncio
import email.utils
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, timedelta
from typing import NamedTuple, Protocol

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import DetailedPyreqwestError, RequestTimeoutError
from pyreqwest.response import Response

from poussetaches.core.moment import Moment, moment_of, seconds_between
from poussetaches.core.target import parse_target
from poussetaches.core.task import Outcome
from poussetaches.engine.masking import Masking
from poussetaches.engine.redirect import REDIRECTS, redirect_error
from poussetaches.engine.request import Request

MAX_BODY = 64 * 1024  # bytes of an answer: error pages are read by people; more is noise
# Servers close idle connections after 2 s (gunicorn) or 5 s (uvicorn); one that is used just
# then costs an attempt, so ours are closed first.
IDLE_CONNECTION = timedelta(seconds=1.5)

_ASKS_TO_WAIT = (429, 503)
# What the client calls two common mistakes, and what they are.
_CERTIFICATES = {
    "UnknownIssuer": "no authority that the system or SSL_CERT_FILE trusts signed its certificate",
    "CaUsedAsEndEntity": "its certificate is an authority's own (CA:TRUE), and not a server's",
}
# Its limits: 100 headers, and 408 KiB of them.
_HEAD_TOO_LARGE = "message head is too large"
_MEANT_TO_HAVE_BODY = ("POST", "PUT", "PATCH")


class Sender(Protocol):
    """Makes attempts."""

    async def send(self, request: Request) -> Outcome:
        """Make one attempt. Every result of the network is an outcome; an exception is a bug."""

    async def probe(self, origin: str) -> str | None:
        """Connect to an origin and hang up; return what went wrong, None when nothing did."""

    async def close(self) -> None:
        """Close all connections."""


class Pin(NamedTuple):
    """A host, and the one address that connections to it are made to."""

    host: str
    address: str


class HttpSender:
    """Makes attempts over HTTP: no redirects, no proxies, no decompression.

    With a ``pin`` it is for that host alone, whose name is not resolved again. ``masking`` hides
    secrets in answers.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        now: Callable[[], Moment],
        pin: Pin | None = None,
        masking: Masking | None = None,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._now = now
        self._pin = pin
        self._masking = masking or Masking()
        builder = (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .connect_timeout(timedelta(seconds=connect_timeout))
            .pool_idle_timeout(IDLE_CONNECTION)
        )
        if pin is not None:
            builder = builder.resolve(pin.host, pin.address, 0)  # whatever the URL's port is
        self._client: Client = builder.build()

    async def send(self, request: Request) -> Outcome:
        """Make one attempt."""
        try:
            builder = (
                self._client.request(request.method, request.url)
                .headers(_headers_of(request))
                .body_bytes(request.body)
                .timeout(timedelta(seconds=request.timeout))
            )
        except ValueError as exc:
            return Outcome(error=f"the request cannot be made: {exc}")
        status: int | None = None
        try:
            async with builder.build_streamed() as response:
                status = response.status
                return await self._answered(request, response)
        except DetailedPyreqwestError as exc:
            return await self._failed(request, exc, status)

    async def probe(self, origin: str) -> str | None:
        """Connect to an origin and hang up."""
        target = parse_target(origin)
        address = target.host if self._pin is None else self._pin.address
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, writer = await asyncio.open_connection(address, target.port)
        except TimeoutError:
            return f"no connection within {self._connect_timeout:g} s"
        except socket.gaierror as exc:
            return f"the name {target.host} cannot be resolved: {exc.strerror}"
        except UnicodeError:  # a label too long for the DNS
            return f"the name {target.host} cannot be resolved"
        except OSError as exc:
            return f"cannot connect: {exc.strerror or exc}"
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()
        return None

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _answered(self, request: Request, response: Response) -> Outcome:
        # Beyond the cut, so that a secret at it is seen whole.
        found = await response.body_reader.read(MAX_BODY + self._masking.margin + 1)
        body = b"" if found is None else found.to_bytes()
        retry_after = None
        if response.status in _ASKS_TO_WAIT:
            retry_after = seconds_to_wait(_header(response, "Retry-After"), now=self._now())
        return Outcome(
            status=response.status,
            body=self._masking.cut(body, MAX_BODY),
            truncated=len(body) > MAX_BODY,
            retry_after=retry_after,
            refused=_header(response, "Poussetaches-Retry").strip().lower() == "no",
            redirect=self._redirect(request, response),
        )

    def _redirect(self, request: Request, response: Response) -> str | None:
        if response.status not in REDIRECTS:
            return None
        location = _header(response, "Location").strip()
        return self._masking.masked(redirect_error(request.url, location)) if location else None

    async def _failed(
        self, request: Request, exc: DetailedPyreqwestError, status: int | None
    ) -> Outcome:
        causes = [cause["message"] for cause in exc.details.get("causes") or []]
        if "client error (Connect)" in causes and status is None:
            outcome = await self._not_connected(request, causes)
            if outcome is not None:
                return outcome
        if isinstance(exc, RequestTimeoutError):
            return Outcome(status=status, error=f"no answer within {request.timeout:g} s")
        return Outcome(status=status, error=_reason(causes, str(exc)))

    async def _not_connected(self, request: Request, causes: list[str]) -> Outcome | None:
        """Return the outcome when nothing was sent; None when it was no matter of connecting."""
        host = parse_target(request.url).host
        if "dns error" in causes:
            error = f"the name {host} cannot be resolved: {causes[-1]}"
            return Outcome(error=error, unreachable=True, unknown_host=True)
        if "operation timed out" in causes or "deadline has elapsed" in causes:
            # A handshake that hangs looks the same; a connection of our own tells them apart.
            if "tcp connect error" not in causes and request.url.lower().startswith("https:"):
                return await self._handshake_or_connection(request)
            error = f"no connection within {self._connect_timeout:g} s"
            return Outcome(error=error, unreachable=True)
        if "tcp connect error" in causes:
            return Outcome(error=f"cannot connect: {causes[-1]}", unreachable=True)
        return None

    async def _handshake_or_connection(self, request: Request) -> Outcome:
        error = await self.probe(parse_target(request.url).origin)
        if error is not None:
            return Outcome(error=error, unreachable=True)
        return Outcome(error=f"no TLS handshake within {self._connect_timeout:g} s")


def _headers_of(request: Request) -> dict[str, str]:
    if request.body or request.method not in _MEANT_TO_HAVE_BODY:
        return request.headers
    # The client says nothing of an empty body, and some servers insist (RFC 9110, 8.6).
    return {**request.headers, "Content-Length": "0"}


def _header(response: Response, name: str) -> str:
    try:
        return response.get_header(name) or ""
    except ValueError:  # bytes that are no text; then it says nothing to us
        return ""


def seconds_to_wait(value: str, *, now: Moment) -> float | None:
    """Return what a Retry-After header asks for: seconds or a date (RFC 9110, 10.2.3)."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds_between(now, moment_of(date.replace(tzinfo=date.tzinfo or UTC))))


def _reason(causes: list[str], otherwise: str) -> str:
    """Return why a request failed in words: the innermost cause says most."""
    reason = causes[-1] if causes else otherwise
    if reason == _HEAD_TOO_LARGE:
        return "the answer has more than 100 headers, or a head longer than 400 KiB"
    if "client error (Connect)" not in causes:
        return reason
    for name, words in _CERTIFICATES.items():
        if name in reason:
            reason = words
    return f"no secure connection: {reason}"
