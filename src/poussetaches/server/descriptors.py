"""``Descriptors``: how many files and sockets the server may have open, and for what.

Running out of them would cost callers their connections and tasks their attempts, so what the
system allows is divided at the start: every part has a limit, and all limits together fit.
"""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass
from pathlib import Path

from poussetaches.core.errors import TooFewDescriptors
from poussetaches.engine.origins import MOST_PROBES
from poussetaches.engine.resolver import MOST_LOOKUPS

MOST_CONNECTIONS = 4096
RESERVED = 24  # for the store, the log, the event loop, and what lives for a moment
# Connections to applications that wait for their next attempt. They are closed after 1.5 to 3 s:
# this is room for a thousand attempts a second to as many applications.
IDLE = 3072
FEWEST_IDLE = 512  # with less room than this, no connection is kept for the next attempt
FEWEST_PROBES = FEWEST_LOOKUPS = 4  # so that some are left when others wait for silent hosts
FEWEST = 16  # descriptors besides what is reserved, or nothing could be served

PARTS = ("max_in_flight", "connections", "probes", "lookups", "idle")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """How many of each there may be at once."""

    connections: int = MOST_CONNECTIONS  # to the API
    max_in_flight: int
    probes: int = MOST_PROBES
    lookups: int = MOST_LOOKUPS
    idle: int = IDLE  # connections that attempts leave to those that follow

    @classmethod
    def divided(cls, limit: int, *, in_use: int, max_in_flight: int) -> Descriptors:
        """Divide what a limit leaves beside the descriptors in use.

        Raises:
            TooFewDescriptors: it leaves too little to serve anything.
        """
        room = limit - in_use - RESERVED
        if room < FEWEST:
            raise TooFewDescriptors(
                f"the limit of open files is {limit}, and at least {limit - room + FEWEST} are "
                "needed; raise it with `ulimit -n`, or LimitNOFILE= in a systemd unit"
            )
        probes = min(MOST_PROBES, max(FEWEST_PROBES, room // 16))
        lookups = min(MOST_LOOKUPS, max(FEWEST_LOOKUPS, room // 16))
        room -= probes + lookups
        max_in_flight = min(max_in_flight, max(room // 2, room - MOST_CONNECTIONS))
        room -= max_in_flight
        idle = min(IDLE, max(room - MOST_CONNECTIONS, room // 3))
        if idle < FEWEST_IDLE:
            idle = 0
        return cls(
            connections=min(MOST_CONNECTIONS, room - idle),
            max_in_flight=max_in_flight,
            probes=probes,
            lookups=lookups,
            idle=idle,
        )


def divide_descriptors(max_in_flight: int) -> Descriptors:
    """Raise the limit of open files as far as is of use, and divide it; say what is lowered.

    Raises:
        TooFewDescriptors: it is too low to serve anything.
    """
    wanted = Descriptors(max_in_flight=max_in_flight)
    in_use = sum(1 for _ in Path("/dev/fd").iterdir())
    limit = _raised_limit(
        in_use + RESERVED + MOST_CONNECTIONS + max_in_flight + MOST_PROBES + MOST_LOOKUPS + IDLE
    )
    if limit is None:
        return wanted
    found = Descriptors.divided(limit, in_use=in_use, max_in_flight=max_in_flight)
    lowered = {
        name: f"{getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in PARTS
        if getattr(found, name) < getattr(wanted, name)
    }
    if lowered:
        log.warning("the limit of open files is low", extra={"limit": limit, **lowered})
    return found


def _raised_limit(wanted: int) -> int | None:
    """Raise this process's limit of open files to what is wanted; return it, None for no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return soft
