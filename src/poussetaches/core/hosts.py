"""Names and addresses of hosts, and names with a wildcard that stand for many."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The addresses of listeners on every interface, and those to connect to instead.
UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens on them here
WILDCARD = "*."  # before a name: every name that ends in it, at any depth, but not itself


def is_named(host: str, names: Iterable[str]) -> bool:
    """Tell whether a host, in lower case, is one of some names, or below one with a wildcard."""
    return any(
        host == name or (name.startswith(WILDCARD) and host.endswith(name[1:])) for name in names
    )


@lru_cache(maxsize=4096)
def address_of(host: str) -> Address | None:
    """Return the IP address that a host is, IPv4 also where IPv6 carries it; None for a name.

    An address with a zone is none: it means something on one machine only.
    """
    if "%" in host:
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
