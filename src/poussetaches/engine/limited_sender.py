"""``LimitedSender``: attempts to allowed targets only, whatever their names are resolved to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from poussetaches.core.allowed import AllowedTargets, Verdict, refusal
from poussetaches.core.target import Target, parse_target
from poussetaches.core.task import Outcome
from poussetaches.engine.request import Request
from poussetaches.engine.sender import Pin, Sender

MOST_SENDERS = 64  # pairs of a name and an address whose connections are kept

# Returns the addresses of a host; raises OSError as ``getaddrinfo`` does.
Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which they are to be tried."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class LimitedSender:
    """Sends to what is allowed by name as ``sender`` does, and to other names by address.

    Such a name is resolved here, each of its addresses is checked, and the connection is made to
    one that was checked (docs/decisions/0021-allowed-targets.md): a name that is resolved to
    something else a moment later leads nowhere else.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        allowed: AllowedTargets,
        pinned: Callable[[Pin], Sender],
        resolve: Resolve = resolve,
        connect_timeout: float,
    ) -> None:
        self._sender = sender
        self._allowed = allowed
        self._make_pinned = pinned
        self._resolve = resolve
        self._connect_timeout = connect_timeout
        self._pinned: dict[Pin, Sender] = {}  # the one used last comes last

    async def send(self, request: Request) -> Outcome:
        """Make one attempt, unless its target is not allowed."""
        target = parse_target(request.url)
        match self._allowed.judge(target):
            case Verdict.YES:
                return await self._sender.send(request)
            case Verdict.NO:
                return Outcome(error=refusal(target))
            case Verdict.BY_ADDRESS:
                return await self._send_by_address(request, target)

    async def probe(self, origin: str) -> str | None:
        """Connect to an origin and hang up, unless it is not allowed."""
        target = parse_target(origin)
        match self._allowed.judge(target):
            case Verdict.YES:
                return await self._sender.probe(origin)
            case Verdict.NO:
                return refusal(target)
            case Verdict.BY_ADDRESS:
                return await self._probe_by_address(origin, target)

    async def close(self) -> None:
        """Close all connections."""
        for sender in (self._sender, *self._pinned.values()):
            await sender.close()

    async def _send_by_address(self, request: Request, target: Target) -> Outcome:
        try:
            async with asyncio.timeout(request.timeout):
                pins = await self._pins_of(target)
                if isinstance(pins, Outcome):
                    return pins
                outcome = await self._pinned_to(pins[0]).send(request)
                for pin in pins[1:]:
                    if not outcome.unreachable:
                        break
                    outcome = await self._pinned_to(pin).send(request)
                return outcome
        except TimeoutError:
            return Outcome(error=f"no answer within {request.timeout:g} s")

    async def _probe_by_address(self, origin: str, target: Target) -> str | None:
        pins = await self._pins_of(target)
        if isinstance(pins, Outcome):
            return pins.error
        error = await self._pinned_to(pins[0]).probe(origin)
        for pin in pins[1:]:
            if error is None:
                break
            error = await self._pinned_to(pin).probe(origin)
        return error

    async def _pins_of(self, target: Target) -> list[Pin] | Outcome:
        """Return what a name may be connected to, at least one; or what comes of an attempt."""
        try:
            async with asyncio.timeout(self._connect_timeout):
                addresses = await self._resolve(target.host, target.port)
        except TimeoutError:
            return _unknown(target, f"no answer within {self._connect_timeout:g} s")
        except socket.gaierror as exc:
            return _unknown(target, str(exc.strerror))
        except (OSError, UnicodeError) as exc:  # as of a label too long for the DNS
            return _unknown(target, str(exc))
        for address in addresses:
            if not self._allowed.has_address(address, target.port):
                return Outcome(error=refusal(target, address))
        return [Pin(target.host, address) for address in addresses]

    def _pinned_to(self, pin: Pin) -> Sender:
        sender = self._pinned.pop(pin, None)
        if sender is None:
            sender = self._make_pinned(pin)
            if len(self._pinned) >= MOST_SENDERS:
                # Not closed: attempts under way keep it until they end.
                del self._pinned[next(iter(self._pinned))]
        self._pinned[pin] = sender
        return sender


def _unknown(target: Target, reason: str) -> Outcome:
    error = f"the name {target.host} cannot be resolved: {reason}"
    return Outcome(error=error, unreachable=True, unknown_host=True)
