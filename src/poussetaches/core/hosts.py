"""Names and addresses of hosts, and wildcards in names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The addresses of listeners on every interface, and those to connect to instead.
UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens on them here
WILDCARD = "*."  # before a name: every name that ends in it, at any depth, but not itself


def is_named(host: str, names: Iterable[str]) -> bool:
    """Return whether a lower-case host is among some names, or below one with a wildcard."""
    return any(
        host == name or (name.startswith(WILDCARD) and host.endswith(name[1:])) for name in names
    )


@lru_cache(maxsize=4096)
def address_of(host: str) -> Address | None:
    """Return a host as an IP address, IPv4-mapped IPv6 as IPv4; None if it is a name.

    An address with a zone is not accepted, since it is only valid on one machine.
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
