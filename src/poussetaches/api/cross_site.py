"""Refuses requests that web pages of other origins make a browser send.

A page of another origin can make a browser send a POST, also to 127.0.0.1, and the browser adds
its stored password. If the name of a page resolves to the server's address after it was loaded
(DNS rebinding), the browser treats both as one origin; the name in ``Host`` reveals it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from http import HTTPStatus

from poussetaches.api.problems import Problem
from poussetaches.api.request_head import SAFE_METHODS, RequestHead, quoted
from poussetaches.api.router import Resource
from poussetaches.core.hosts import address_of, is_named

_BROWSER_HEADERS = frozenset({b"origin", b"sec-fetch-site"})
_FOREIGN_SITES = frozenset({b"cross-site", b"same-site"})
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]*)(?::[0-9]*)?", re.IGNORECASE)


class KnownHosts:
    """The values of ``Host`` that are accepted without a token.

    These are the configured names, IP addresses, and names without a dot: no page of another
    origin can have one of them as its name.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self.has = lru_cache(maxsize=64)(self._has)

    def _has(self, host: bytes) -> bool:
        match = _HOST.fullmatch(host.decode("latin-1"))
        if match is None:
            return False
        name = match[1].lower().strip("[]")
        return "." not in name or address_of(name) is not None or is_named(name, self._names)


def cross_site_problem(
    head: RequestHead, resource: Resource, *, known_hosts: KnownHosts | None
) -> Problem | None:
    """Return the 421 or 403 of a request that a page of another origin may have sent.

    ``known_hosts`` is None if any name is accepted, because a token is required. Every push is
    checked, so this must be fast.
    """
    hosts, browser_headers = [], []
    for header in head.headers:
        if header[0] == b"host":
            hosts.append(header[1])
        elif header[0] in _BROWSER_HEADERS:
            browser_headers.append(header)
    if known_hosts is not None and not resource.is_open:
        for host in hosts:
            if not known_hosts.has(host):
                return _misdirected(host)
    if not browser_headers or head.method in SAFE_METHODS:
        return None
    return _origin_problem(browser_headers, hosts)


def _origin_problem(
    browser_headers: Iterable[tuple[bytes, bytes]], hosts: list[bytes]
) -> Problem | None:
    for name, value in browser_headers:
        if name == b"origin" and not _is_same_origin(value, hosts):
            host = quoted(hosts[0]) if hosts else "none"
            return _cross_site(f"its Origin is {quoted(value)}, but its Host is {host}")
        if name == b"sec-fetch-site" and value in _FOREIGN_SITES:
            return _cross_site(f"its Sec-Fetch-Site is {quoted(value)}")
    return None


def _is_same_origin(origin: bytes, hosts: list[bytes]) -> bool:
    """Return whether an ``Origin`` is the host of the request.

    The scheme is ignored, because it differs behind a proxy that terminates TLS.
    ``X-Forwarded-Host`` is ignored, because it would need a list of trusted proxies.
    """
    scheme, _, authority = origin.lower().partition(b"://")
    default = _DEFAULT_PORTS.get(scheme)
    if default is None or len(hosts) != 1:
        return False
    return authority.removesuffix(default) == hosts[0].lower().removesuffix(default)


def _cross_site(reason: str) -> Problem:
    detail = (
        f"a web page of another origin cannot change anything: {reason}. A proxy must forward "
        "Host; programs must send neither Origin nor Sec-Fetch-Site"
    )
    return Problem(HTTPStatus.FORBIDDEN, "cross-site", detail)


def _misdirected(host: bytes) -> Problem:
    detail = (
        f"the Host header is {quoted(host)}, which is not a known name of this server; start the "
        "server with --allow-host and that name, or set an API token"
    )
    return Problem(HTTPStatus.MISDIRECTED_REQUEST, "unknown-host", detail)
