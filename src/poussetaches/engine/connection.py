"""Failed connections as outcomes: was the target at fault, or this machine?"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from contextlib import suppress

from poussetaches.core.cause import Cause
from poussetaches.core.task import Outcome

# This process or this machine has no resources left for a connection. No origin is at fault.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# No local port, or no local address, is left for one destination. Others can be connected to.
NO_LOCAL_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.EAGAIN})


def not_connected(number: int | None, reason: str) -> Outcome:
    """Return the outcome of a connection that failed, given the system's error number."""
    if number in EXHAUSTED:
        return out_of_resources(reason)
    cause = Cause.NO_LOCAL_PORT if number in NO_LOCAL_ADDRESS else Cause.NOT_CONNECTED
    return Outcome(error=f"cannot connect: {reason}", cause=cause)


def connection_timeout(limit: float) -> Outcome:
    """Return the outcome of a connection that was not made within ``limit`` seconds."""
    return Outcome(error=f"no connection within {limit:g} s", cause=Cause.NOT_CONNECTED)


def answer_timeout(limit: float, *, status: int | None = None) -> Outcome:
    """Return the outcome of an attempt that got no answer within ``limit`` seconds."""
    return Outcome(status=status, error=f"no answer within {limit:g} s", cause=Cause.TIMEOUT)


def out_of_resources(reason: str) -> Outcome:
    """Return the outcome of an attempt that this machine had no resources for."""
    error = f"poussetaches has no resources left for a connection: {reason}"
    return Outcome(error=error, cause=Cause.OUT_OF_RESOURCES)


async def connect(addresses: Sequence[str], port: int, *, limit: float) -> Outcome | None:
    """Connect to the first address that accepts, and hang up; return None.

    If none does, return the outcome for the last one. Each address gets an equal part of ``limit``
    seconds, so that a silent one leaves time for the others.
    """
    outcome: Outcome | None = None
    for address in addresses:
        try:
            async with asyncio.timeout(limit / len(addresses)):
                _, writer = await asyncio.open_connection(address, port)
        except TimeoutError:
            outcome = connection_timeout(limit)
        except OSError as exc:
            outcome = not_connected(exc.errno, exc.strerror or str(exc))
            if exc.errno in EXHAUSTED:
                return outcome
        else:
            with suppress(OSError):
                writer.close()
                await writer.wait_closed()
            return None
    return outcome


def is_out_of_descriptors() -> bool:
    """Return whether no file can be opened, which may be the cause of a library's error."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError as exc:
        return exc.errno in EXHAUSTED
    os.close(descriptor)
    return False
