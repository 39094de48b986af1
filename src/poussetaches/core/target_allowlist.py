"""``AllowedTargets``: where tasks may be sent, by name and by network."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from poussetaches.core.errors import InvalidTask, TargetNotAllowed
from poussetaches.core.hosts import Address, address_of, is_named
from poussetaches.core.target import MAX_PORT, Target, absolute_url, parse_target

SETTING = "allow_target"

_RULE = re.compile(
    r"(?:\[(?P<v6>[0-9a-f]*:[0-9a-f:.]+(?:/[0-9]{1,3})?)\]"
    r"|(?P<v4>[0-9]+(?:\.[0-9]+){3}(?:/[0-9]{1,2})?)"
    r"|(?P<name>(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<bare>[0-9a-f.]*:[0-9a-f.]*:[0-9a-f:.]*(?:/[0-9]{1,3})?)"
)
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Verdict(Enum):
    """Whether a target is allowed, judged by its URL alone."""

    YES = "yes"
    NO = "no"
    BY_ADDRESS = "by address"  # allowed if all addresses of its name are in allowed networks


class Rule(NamedTuple):
    """A name, with or without a wildcard, or a network; and perhaps the only port there."""

    name: str
    network: Network | None
    port: int | None

    def has(self, address: Address, port: int) -> bool:
        """Return whether the rule's network contains an address."""
        return self.network is not None and address in self.network and self.is_open(port)

    def is_open(self, port: int) -> bool:
        """Return whether the rule allows a port."""
        return self.port in (None, port)


def parse_rule(text: str) -> Rule:
    """Return what a text like ``*.example.com``, ``10.0.0.0/8`` or ``[::1]:8000`` allows.

    Raises:
        ValueError: it is none of these.
    """
    match = _RULE.fullmatch(text.lower())
    if match is None:
        raise ValueError
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= MAX_PORT:
        raise ValueError
    if match["name"]:
        # A client would read such a name as an address: no target can have it.
        if _ENDS_IN_NUMBER.fullmatch(match["name"]):
            raise ValueError
        return Rule(match["name"], None, port)
    return Rule("", ipaddress.ip_network(match["v6"] or match["v4"] or match["bare"]), port)


class AllowedTargets:
    """Where tasks may be sent. Without rules that is everywhere."""

    def __init__(self, rules: Sequence[str] = ()) -> None:
        parsed = [parse_rule(rule) for rule in rules]
        self._names = [rule for rule in parsed if rule.network is None]
        self._networks = [rule for rule in parsed if rule.network is not None]

    @property
    def is_everywhere(self) -> bool:
        """Whether all targets are allowed."""
        return not (self._names or self._networks)

    def judge(self, target: Target) -> Verdict:
        """Return the verdict on a target before its name is resolved."""
        if self.is_everywhere:
            return Verdict.YES
        address = address_of(target.host)
        if address is not None:
            return Verdict.YES if self._has(address, target.port) else Verdict.NO
        host = target.host.removesuffix(".")
        if any(is_named(host, [rule.name]) and rule.is_open(target.port) for rule in self._names):
            return Verdict.YES
        if any(rule.is_open(target.port) for rule in self._networks):
            return Verdict.BY_ADDRESS
        return Verdict.NO

    def has_address(self, address: str, port: int) -> bool:
        """Return whether an address that a name was resolved to is in an allowed network."""
        parsed = address_of(address)
        return parsed is not None and self._has(parsed, port)

    def check(self, field: str, url: str) -> None:
        """Check that a URL's host is allowed, or may turn out to be when it is resolved.

        Raises:
            TargetNotAllowed: no rule can allow it.
        """
        if self.is_everywhere:
            return
        target = parse_target(url)
        if self.judge(target) is Verdict.NO:
            raise TargetNotAllowed(field, refusal(target))

    def _has(self, address: Address, port: int) -> bool:
        return any(rule.has(address, port) for rule in self._networks)


def check_path(
    field: str, path: str, base_url: str | None, *, queue: str, allowed: AllowedTargets
) -> None:
    """Check a URL that is a path, with the base URL of its queue.

    Raises:
        InvalidTask: there is no base URL, or the absolute URL is invalid.
        TargetNotAllowed: sending to the target is not allowed.
    """
    if base_url is None:
        raise InvalidTask(
            field,
            f"is a path, but there is no base URL; set base_url of the queue "
            f"{queue!r}, or POUSSETACHES_BASE_URL of the server",
        )
    try:
        parse_target(absolute_url(base_url, path))
    except InvalidTask as exc:
        raise InvalidTask(field, f"with the base URL: {exc.reason}") from None
    allowed.check(field, base_url)


def refusal(target: Target, address: str | None = None) -> str:
    """Return why nothing is sent to a target, or to an address that its name has."""
    resolved = "" if address is None else f" resolves to {address}, which"
    return f"{target.authority}{resolved} is not an allowed target; see the setting {SETTING}"
