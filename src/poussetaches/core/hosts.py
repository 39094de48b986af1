"""Names of hosts, and the names with a wildcard that stand for many."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

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
