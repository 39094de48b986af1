"""Failed connections as outcomes: was the target at fault, or this machine?"""

from __future__ import annotations

import errno
import os

from poussetaches.core.cause import Cause
from poussetaches.core.task import Outcome
from poussetaches.http_client.errors import ConnectTimeout, NotConnected

# This process or this machine has no resources left for a connection. No origin is at fault.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# No local port, or no local address, is left for one destination. Others can be connected to.
NO_LOCAL_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.EAGAIN})


def not_connected(exc: NotConnected) -> Outcome:
    """Return the outcome of a connection that was not made."""
    if isinstance(exc, ConnectTimeout):
        return Outcome(error=str(exc), cause=Cause.NOT_CONNECTED)
    if exc.number in EXHAUSTED:
        return out_of_resources(str(exc))
    cause = Cause.NO_LOCAL_PORT if exc.number in NO_LOCAL_ADDRESS else Cause.NOT_CONNECTED
    return Outcome(error=f"cannot connect: {exc}", cause=cause)


def restarted(reason: str) -> Outcome:
    """Return the outcome of an attempt whose application stopped before it answered."""
    error = f"{reason}, and the application accepts no connections now"
    return Outcome(error=error, cause=Cause.RESTARTED)


def answer_timeout(limit: float, *, status: int | None = None) -> Outcome:
    """Return the outcome of an attempt that got no answer within ``limit`` seconds."""
    return Outcome(status=status, error=f"no answer within {limit:g} s", cause=Cause.TIMEOUT)


def not_verifiable(reason: str) -> Outcome:
    """Return the outcome of attempts at https targets without certificate authorities."""
    if is_out_of_descriptors():  # so that the authorities could not be read
        return out_of_resources(os.strerror(errno.EMFILE))
    error = (
        f"no secure connection: no certificate authority is trusted here ({reason}); install "
        "ca-certificates or correct SSL_CERT_FILE"
    )
    return Outcome(error=error, cause=Cause.TLS_FAILED)


def out_of_resources(reason: str) -> Outcome:
    """Return the outcome of an attempt that this machine had no resources for."""
    error = f"poussetaches has no resources left for a connection: {reason}"
    return Outcome(error=error, cause=Cause.OUT_OF_RESOURCES)


def is_out_of_descriptors() -> bool:
    """Return whether no file can be opened, which may be the cause of a library's error."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError as exc:
        return exc.errno in EXHAUSTED
    os.close(descriptor)
    return False
