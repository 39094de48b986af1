"""``RequestHead``: the part of a request that the checks read."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

MAX_QUOTED = 200  # characters of a header in an error
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, section 9.2.1


class RequestHead(msgspec.Struct, frozen=True, gc=False):  # made for every push
    """Method, decoded path, headers with names in lower case, and the client's address."""

    method: str
    path: str
    headers: Sequence[tuple[bytes, bytes]]
    peer: str | None = None  # None on a Unix socket


def quoted(value: bytes) -> str:
    """Return the value of a header for an error."""
    return repr(value.decode("latin-1")[:MAX_QUOTED])
