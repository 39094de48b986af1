"""Errors of requests that got no answer from the server, in the same words for both clients."""

from __future__ import annotations

from poussetaches.client.environment import URL
from poussetaches.client.errors import NoAnswer, NotUnderstood
from poussetaches.http_client.errors import NO_TLS

START = f"start the server, or set {URL} to its address"
USE_HTTP = "if the server has no TLS, use http:// in its URL"


def not_reached(url: str, reason: object) -> NoAnswer:
    """Return the error for a server to which no connection was made."""
    return NoAnswer(f"no answer from {url}: {reason}", advice=START)


def too_late(url: str, seconds: float) -> NoAnswer:
    """Return the error for an answer that was not complete in time."""
    return NoAnswer(f"no complete answer from {url} within {seconds:.3g} s")


def no_secure_connection(url: str, reason: object) -> NoAnswer:
    """Return the error for a failed TLS handshake."""
    advice = USE_HTTP if NO_TLS in str(reason) else ""
    return NoAnswer(f"no answer from {url}: {reason}", advice=advice)


def broken(url: str, reason: object) -> NoAnswer:
    """Return the error for a connection that was lost before the answer was complete."""
    return NoAnswer(f"no complete answer from {url}: {reason}")


def not_http(url: str, reason: object) -> NotUnderstood:
    """Return the error for an answer of a program that does not speak HTTP."""
    return NotUnderstood(
        f"the answer from {url} is not HTTP, so another program listens there ({reason}); set"
        f" {URL} to the server's address"
    )
