"""What web pages may not do through the browser of somebody who can reach the server.

A page of another origin can have any browser send a POST, to 127.0.0.1 too, and the browser adds
the password that it knows. And a page whose name is pointed at our address after it was loaded
(DNS rebinding) is of our own origin to the browser; it is told by the name in ``Host``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from poussetaches.api.auth import OPEN_PATHS
from poussetaches.api.problems import Problem
from poussetaches.core.hosts import address_of, is_named

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_WATCHED = frozenset({b"host", b"origin", b"sec-fetch-site"})
_FOREIGN_SITES = frozenset({b"cross-site", b"same-site"})
_USUAL_PORTS = {b"http": b":80", b"https": b":443"}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]*)(?::[0-9]*)?", re.IGNORECASE)
_LONGEST_SHOWN = 200  # characters of what a request says of itself


class BrowserGuard:
    """Refuses what no page of ours can have sent, in front of an application.

    ``hosts`` are the names that the server may be called by, besides addresses and names without
    a dot; None when any will do, because a token is asked for.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None) -> None:
        self._app = app
        self._is_known = None if hosts is None else _known_by(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        problem = self.refusal(scope)
        await (self._app if problem is None else problem.response())(scope, receive, send)

    def may_pass(self, scope: Scope) -> bool:
        """Tell whether a request is not refused."""
        return self.refusal(scope) is None

    def refusal(self, scope: Scope) -> Problem | None:
        """Return why a request is refused; None when it is not. Pushes come here too: be quick."""
        watched = [header for header in scope["headers"] if header[0] in _WATCHED]
        hosts = [header[1] for header in watched if header[0] == b"host"]
        if self._is_known is not None and scope["path"] not in OPEN_PATHS:
            for host in hosts:
                if not self._is_known(host):
                    return _misdirected(host)
        if len(watched) == len(hosts) or scope["method"] in _SAFE_METHODS:
            return None
        return _refuse_foreign(watched, hosts)


def _known_by(names: Collection[str]) -> Callable[[bytes], bool]:
    """Return what tells whether a ``Host`` is known, or one that nobody can point at us."""

    @lru_cache(maxsize=64)
    def is_known(host: bytes) -> bool:
        match = _HOST.fullmatch(host.decode("latin-1"))
        if match is None:
            return False
        name = match[1].lower().strip("[]")
        return "." not in name or address_of(name) is not None or is_named(name, names)

    return is_known


def _refuse_foreign(watched: Iterable[tuple[bytes, bytes]], hosts: list[bytes]) -> Problem | None:
    for name, value in watched:
        if name == b"origin" and not _is_own(value, hosts):
            host = _shown(hosts[0]) if hosts else "none"
            return _foreign(f"its Origin is {_shown(value)}, and the server's Host is {host}")
        if name == b"sec-fetch-site" and value in _FOREIGN_SITES:
            return _foreign(f"its Sec-Fetch-Site is {_shown(value)}")
    return None


def _is_own(origin: bytes, hosts: list[bytes]) -> bool:
    """Tell whether an ``Origin`` is the host that was asked.

    The scheme is left open: behind a proxy that ends TLS it is not ours. ``X-Forwarded-Host`` is
    not looked at: a proxy can pass ``Host`` on, and then nobody has to know whom to believe.
    """
    scheme, _, authority = origin.lower().partition(b"://")
    usual = _USUAL_PORTS.get(scheme)
    if usual is None or len(hosts) != 1:
        return False
    return authority.removesuffix(usual) == hosts[0].lower().removesuffix(usual)


def _foreign(why: str) -> Problem:
    detail = (
        f"a page of another origin may change nothing here: {why}. A proxy in front has to pass "
        "Host on; a program is to send neither Origin nor Sec-Fetch-Site"
    )
    return Problem(HTTPStatus.FORBIDDEN, "cross-site", detail)


def _misdirected(host: bytes) -> Problem:
    detail = (
        f"the server is not known by the name {_shown(host)}, as its Host header has it; start it "
        "with --allow-host and that name, or set an API token"
    )
    return Problem(HTTPStatus.MISDIRECTED_REQUEST, "unknown-host", detail)


def _shown(value: bytes) -> str:
    return repr(value.decode("latin-1")[:_LONGEST_SHOWN])
