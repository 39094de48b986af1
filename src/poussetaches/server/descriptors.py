"""``Descriptors``: divides the limit of open files among the parts of the server.

A server that runs out of file descriptors refuses connections and fails attempts. So each part
gets a limit of its own at the start, and the sum fits into the system's limit.
"""

from __future__ import annotations

import logging
import resource
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from poussetaches.core.errors import TooFewDescriptors
from poussetaches.engine.origins import MAX_PROBES
from poussetaches.engine.resolver import MOST_LOOKUPS
from poussetaches.engine.sender import MOST_IDLE

MOST_CONNECTIONS = 4096
RESERVED = 24  # for the store, the log, the event loop, and short-lived files
FEWEST_PROBES = FEWEST_LOOKUPS = 4  # one host that does not answer must not block the others
FEWEST = 16  # descriptors on top of the reserved ones that the server needs to work

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """The maximum numbers of concurrent connections, attempts, probes and lookups."""

    connections: int = MOST_CONNECTIONS  # to the API
    max_in_flight: int
    probes: int = MAX_PROBES
    lookups: int = MOST_LOOKUPS
    idle: int = MOST_IDLE  # keep-alive connections to applications

    @classmethod
    def divided(cls, limit: int, *, in_use: int, max_in_flight: int) -> Descriptors:
        """Divide the descriptors of a limit that are not in use yet.

        Raises:
            TooFewDescriptors: there are too few for the server to work.
        """
        room = limit - in_use - RESERVED
        if room < FEWEST:
            raise TooFewDescriptors(
                f"the limit of open files is {limit}, and at least {limit - room + FEWEST} are "
                "needed; raise it with `ulimit -n`, or LimitNOFILE= in a systemd unit"
            )
        probes = min(MAX_PROBES, max(FEWEST_PROBES, room // 16))
        lookups = min(MOST_LOOKUPS, max(FEWEST_LOOKUPS, room // 16))
        room -= probes + lookups
        max_in_flight = min(max_in_flight, max(room // 2, room - MOST_CONNECTIONS))
        room -= max_in_flight
        idle = min(MOST_IDLE, max(room - MOST_CONNECTIONS, room // 3))
        return cls(
            connections=min(MOST_CONNECTIONS, room - idle),
            max_in_flight=max_in_flight,
            probes=probes,
            lookups=lookups,
            idle=idle,
        )


def divide_descriptors(max_in_flight: int) -> Descriptors:
    """Raise the limit of open files to what the server can use, and divide it.

    Logs a warning if a part gets less than it should have.

    Raises:
        TooFewDescriptors: the limit is too low for the server to work.
    """
    wanted = Descriptors(max_in_flight=max_in_flight)
    in_use = sum(1 for _ in Path("/dev/fd").iterdir())
    limit = _raised_limit(in_use + RESERVED + sum(astuple(wanted)))
    if limit is None:
        return wanted
    found = Descriptors.divided(limit, in_use=in_use, max_in_flight=max_in_flight)
    lowered = {
        name: f"{getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in asdict(wanted)
        if getattr(found, name) < getattr(wanted, name)
    }
    if lowered:
        log.warning("the limit of open files is low", extra={"limit": limit, **lowered})
    return found


def _raised_limit(wanted: int) -> int | None:
    """Raise the limit of open files towards ``wanted``; return it, None if unlimited."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return soft
