"""``LimitedSender``: attempts to allowed targets only, checked after names are resolved."""

from __future__ import annotations

from collections.abc import Sequence

from poussetaches.core.cause import Cause
from poussetaches.core.target import Target, parse_target
from poussetaches.core.target_allowlist import AllowedTargets, Verdict, refusal
from poussetaches.core.task import Outcome
from poussetaches.engine.request import Request
from poussetaches.engine.resolver import LookupFailed, Resolver
from poussetaches.engine.sender import LOOKUP_LIMIT, HttpSender, Sender


class LimitedSender:
    """Uses ``sender`` for targets that are allowed by name; checks the addresses of others.

    For each attempt to such a name, all of its addresses are checked, and ``http_sender`` connects
    to these alone (docs/decisions/0021-allowed-targets.md). So a name that resolves to something
    else a moment later cannot redirect it.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        allowed: AllowedTargets,
        http_sender: HttpSender,
        resolver: Resolver,
        connect_timeout: float,
    ) -> None:
        self._sender = sender
        self._allowed = allowed
        self._http_sender = http_sender
        self._resolver = resolver
        self._connect_timeout = connect_timeout

    async def send(self, request: Request) -> Outcome:
        """Make one attempt, unless its target is not allowed."""
        target = parse_target(request.url)
        limit = min(LOOKUP_LIMIT, self._connect_timeout, request.timeout)
        try:
            addresses = await self._allowed_addresses(target, limit=limit)
        except LookupFailed as exc:
            return exc.outcome
        if addresses is None:
            return await self._sender.send(request)
        return await self._http_sender.send_to(request, addresses)

    async def probe(self, origin: str) -> Outcome | None:
        """Connect to an origin and hang up, unless it is not allowed."""
        target = parse_target(origin)
        try:
            addresses = await self._allowed_addresses(target, limit=self._connect_timeout)
        except LookupFailed as exc:
            return exc.outcome
        if addresses is None:
            return await self._sender.probe(origin)
        return await self._http_sender.probe_at(target, addresses)

    async def close(self) -> None:
        await self._sender.close()
        await self._http_sender.close()

    async def _allowed_addresses(self, target: Target, *, limit: float) -> Sequence[str] | None:
        """Return the addresses of a host, None if it is allowed by its name.

        Raises:
            LookupFailed: it has no address, or one that is not allowed.
        """
        verdict = self._allowed.judge(target)
        if verdict is Verdict.YES:
            return None
        if verdict is Verdict.NO:
            raise _refused(target)
        addresses = await self._resolver.addresses(target.host, limit=limit)
        for address in addresses:
            if not self._allowed.has_address(address, target.port):
                raise _refused(target, address)
        return addresses


def _refused(target: Target, address: str | None = None) -> LookupFailed:
    error = refusal(target, address)
    return LookupFailed(Outcome(error=error, cause=Cause.TARGET_NOT_ALLOWED))
