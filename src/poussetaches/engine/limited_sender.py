"""``LimitedSender``: attempts to allowed targets only, checked after names are resolved."""

from __future__ import annotations

import time
from collections.abc import Callable

from poussetaches.core.cause import Cause
from poussetaches.core.target import Target, parse_target
from poussetaches.core.target_allowlist import AllowedTargets, Verdict, refusal
from poussetaches.core.task import Outcome
from poussetaches.engine.connection import answer_timeout, connect
from poussetaches.engine.deadline import Deadline
from poussetaches.engine.request import Request
from poussetaches.engine.resolver import Answer, Resolver
from poussetaches.engine.sender import LOOKUP_LIMIT, Pin, Sender

MOST_SENDERS = 64  # pairs of a name and an address whose connections are kept


class LimitedSender:
    """Uses ``sender`` for targets that are allowed by name, and pins other names to addresses.

    For each attempt to such a name, all of its addresses are checked, and the connection is made
    to one of them (docs/decisions/0021-allowed-targets.md). So a name that
    resolves to something else a moment later cannot redirect it.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        allowed: AllowedTargets,
        pinned: Callable[[Pin], Sender],
        resolver: Resolver,
        connect_timeout: float,
    ) -> None:
        self._sender = sender
        self._allowed = allowed
        self._make_pinned = pinned
        self._resolver = resolver
        self._connect_timeout = connect_timeout
        self._pinned: dict[Pin, Sender] = {}  # the one used last comes last

    async def send(self, request: Request) -> Outcome:
        """Make one attempt, unless its target is not allowed."""
        target = parse_target(request.url)
        match self._allowed.judge(target):
            case Verdict.YES:
                return await self._sender.send(request)
            case Verdict.NO:
                return _refused(target)
            case Verdict.BY_ADDRESS:
                return await self._send_by_address(request, target)

    async def probe(self, origin: str) -> Outcome | None:
        """Connect to an origin and hang up, unless it is not allowed."""
        target = parse_target(origin)
        match self._allowed.judge(target):
            case Verdict.YES:
                return await self._sender.probe(origin)
            case Verdict.NO:
                return _refused(target)
            case Verdict.BY_ADDRESS:
                return await self._probe_by_address(target)

    async def close(self) -> None:
        for sender in (self._sender, *self._pinned.values()):
            await sender.close()

    async def _send_by_address(self, request: Request, target: Target) -> Outcome:
        begun_at = time.monotonic()
        limit = min(LOOKUP_LIMIT, self._connect_timeout, request.timeout)
        addresses = await self._allowed_addresses(target, limit=limit)
        if isinstance(addresses, Outcome):
            return addresses
        try:
            with Deadline(request.timeout - (time.monotonic() - begun_at)):
                pins = [Pin(target.host, address) for address in addresses]
                outcome = await self._pinned_to(pins[0]).send(request)
                for pin in pins[1:]:
                    if not outcome.unreachable:
                        break
                    outcome = await self._pinned_to(pin).send(request)
        except TimeoutError:
            return answer_timeout(request.timeout)
        if outcome.unreachable:
            self._resolver.expire(target.host)
        return outcome

    async def _probe_by_address(self, target: Target) -> Outcome | None:
        addresses = await self._allowed_addresses(target, limit=self._connect_timeout)
        if isinstance(addresses, Outcome):
            return addresses
        outcome = await connect(addresses, target.port, limit=self._connect_timeout)
        if outcome is not None and outcome.unreachable:
            self._resolver.expire(target.host)
        return outcome

    async def _allowed_addresses(self, target: Target, *, limit: float) -> Answer:
        """Return the addresses of a name, at least one; or the outcome if one is not allowed."""
        addresses = await self._resolver.addresses(target.host, limit=limit)
        if isinstance(addresses, Outcome):
            return addresses
        for address in addresses:
            if not self._allowed.has_address(address, target.port):
                return _refused(target, address)
        return addresses

    def _pinned_to(self, pin: Pin) -> Sender:
        sender = self._pinned.pop(pin, None)
        if sender is None:
            sender = self._make_pinned(pin)
            if len(self._pinned) >= MOST_SENDERS:
                # Not closed: attempts under way keep it until they end.
                del self._pinned[next(iter(self._pinned))]
        self._pinned[pin] = sender
        return sender


def _refused(target: Target, address: str | None = None) -> Outcome:
    return Outcome(error=refusal(target, address), cause=Cause.TARGET_NOT_ALLOWED)
