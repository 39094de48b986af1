"""``Checks``: all checks of a request before its endpoint is called, in order.

Each check is a function of the head of the request and of the resource at its path. None reads the
ASGI scope, so a listener without ASGI can call them too.
"""

from __future__ import annotations

from collections.abc import Collection

from poussetaches.api.auth import Tokens, token_problem
from poussetaches.api.cross_site import KnownHosts, cross_site_problem
from poussetaches.api.problems import Problem
from poussetaches.api.request_head import RequestHead
from poussetaches.api.request_limits import RequestLimits
from poussetaches.api.router import Resource, path_problem


class Checks:
    """The checks of one server."""

    def __init__(
        self, *, tokens: Tokens | None, hosts: Collection[str], request_limits: RequestLimits
    ) -> None:
        self._tokens = tokens
        self._known_hosts = KnownHosts(hosts) if tokens is None else None
        self._request_limits = request_limits

    def problem(self, head: RequestHead, resource: Resource) -> Problem | None:
        """Return the problem of a refused request, None for others."""
        problem = self._request_limits.problem(resource)
        if problem is None:
            problem = cross_site_problem(head, resource, known_hosts=self._known_hosts)
        if problem is None and self._tokens is not None:
            problem = token_problem(head, resource, tokens=self._tokens)
        return path_problem(head, resource) if problem is None else problem
