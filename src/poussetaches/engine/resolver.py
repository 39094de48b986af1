"""``Resolver``: looks up the addresses of hosts, in threads of its own."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from threading import Thread

from poussetaches.core.cause import Cause
from poussetaches.core.hosts import address_of
from poussetaches.core.task import Outcome
from poussetaches.engine.connection_outcomes import (
    EXHAUSTED,
    is_out_of_descriptors,
    out_of_resources,
)

MOST_LOOKUPS = 256  # threads; a silent DNS server blocks each for 10 s or longer
MOST_NAMES = 4096  # in the cache
FORGOTTEN_AT_ONCE = 256  # names to evict when the cache is full; choosing them takes some time
FRESH = 5.0  # seconds for which addresses are cached
FRESH_FAILURE = 1.0  # seconds for which a failure is cached
SLOW = 1.0  # seconds; a lookup that takes longer may well take very long
QUICK_PART = 4  # quick lookups may use one in so many of the threads that slow ones leave
RETRY = 0.1  # seconds until queued names are retried, at the latest

NEVER = float("-inf")

# Returns the addresses of a host, in the order of preference; raises what ``getaddrinfo`` does.
Lookup = Callable[[str], Sequence[str]]
Answer = tuple[str, ...] | Outcome


class LookupFailed(Exception):
    """A host has no known addresses; ``outcome`` is that of an attempt."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome


def look_up(host: str) -> list[str]:
    """Return the addresses of a host from the system's resolver. It may block for a long time."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class LookupSpeed(IntEnum):
    """The probability that a lookup is quick. Names get threads in the order of the values."""

    GOOD = 0  # the last lookup found addresses quickly
    NEW = 1  # never looked up, or the last lookup failed quickly
    SLOW = 2  # the last lookup was slow


@dataclass(slots=True, eq=False)
class CachedName:
    """A host's name in the cache. Moments are monotonic."""

    host: str
    speed: LookupSpeed = LookupSpeed.NEW
    addresses: tuple[str, ...] = ()  # that the last successful lookup found
    found_at: float = NEVER
    failure: Outcome | None = None
    failed_at: float = NEVER
    lookup: asyncio.Future[Answer] | None = None  # queued, or under way
    waiting_count: int = 0  # attempts and probes that wait for it

    def fresh_answer(self, now: float) -> Answer | None:
        """Return the cached answer; None if it is too old."""
        if now < self.found_at + FRESH:
            return self.addresses
        return self.failure if now < self.failed_at + FRESH_FAILURE else None

    def learn(self, answer: Answer, *, now: float, took: float) -> None:
        """Cache an answer; ``took`` is the duration of its lookup in seconds."""
        if not isinstance(answer, Outcome):
            self.addresses, self.found_at, self.failure = answer, now, None
            self.speed = LookupSpeed.GOOD
        elif not answer.out_of_resources:
            self.failure, self.failed_at = answer, now
            self.speed = LookupSpeed.NEW
            if answer.unknown_host:
                self.addresses = ()
        if took >= SLOW:
            self.speed = LookupSpeed.SLOW


class Resolver:
    """Looks up each name in a thread of its own, once at a time, and caches its addresses.

    A thread that waits for a silent DNS server cannot be ended. So the number of threads is
    limited, and a thread counts until its lookup returns. Names whose DNS is silent, however many,
    leave threads to the others (docs/decisions/0034-lookups.md).
    """

    def __init__(
        self,
        *,
        lookup: Lookup = look_up,
        most: int = MOST_LOOKUPS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = lookup
        self._monotonic = monotonic
        self._limits = {
            LookupSpeed.GOOD: most,
            LookupSpeed.NEW: max(1, most * 3 // 4),
            LookupSpeed.SLOW: max(1, most // 2),
        }
        self._names: dict[str, CachedName] = {}
        # The last one gets the next thread: attempts that asked earlier may have given up.
        self._queues: dict[LookupSpeed, dict[CachedName, None]] = {
            speed: {} for speed in LookupSpeed
        }
        self._begun_at: dict[CachedName, float] = {}  # of the lookups under way
        self._retry: asyncio.TimerHandle | None = None

    @property
    def thread_count(self) -> int:
        """The number of lookups in progress."""
        return len(self._begun_at)

    async def addresses(self, host: str, *, limit: float) -> Sequence[str]:
        """Return the addresses of a host, at least one.

        An IP address is returned unchanged. A lookup that takes longer than ``limit`` seconds
        goes on, for later calls. While no thread is free, outdated addresses are used.

        Raises:
            LookupFailed: it has none, or the DNS did not answer in time.
        """
        answer = await self._answer_for(host, limit)
        if isinstance(answer, Outcome):
            raise LookupFailed(answer)
        return answer

    async def _answer_for(self, host: str, limit: float) -> Answer:
        name = self._names.get(host)
        if name is None:
            if address_of(host) is not None:
                return (host,)
            if not self._make_room():
                return unresolved(host, f"{MOST_NAMES:,} other names are being looked up")
            name = self._names[host] = CachedName(host)
        answer = name.fresh_answer(self._monotonic())
        return await self._look_up_again(name, limit) if answer is None else answer

    def expire(self, host: str) -> None:
        """Stop using the cached addresses of a host, which do not answer."""
        name = self._names.get(host)
        if name is not None:
            name.found_at = NEVER

    def _make_room(self) -> bool:
        """Forget some names if there are too many; return whether there is room for another."""
        if len(self._names) < MOST_NAMES:
            return True
        idle = [name for name in self._names.values() if name.lookup is None]
        idle.sort(key=lambda name: name.speed, reverse=True)
        for name in idle[:FORGOTTEN_AT_ONCE]:
            del self._names[name.host]
        return bool(idle)

    async def _look_up_again(self, name: CachedName, limit: float) -> Answer:
        lookup = self._ask(name)
        if name not in self._begun_at and name.addresses:
            return name.addresses
        name.waiting_count += 1
        try:
            await asyncio.wait({lookup}, timeout=limit)
        finally:
            name.waiting_count -= 1
        if lookup.done():
            return lookup.result()
        if name in self._begun_at:
            return unresolved(name.host, f"no answer within {limit:g} s")
        if not name.waiting_count:
            del self._queues[name.speed][name]
            name.lookup = None
        return unresolved(name.host, f"{self.thread_count} other lookups are under way")

    def _ask(self, name: CachedName) -> asyncio.Future[Answer]:
        """Return the lookup of a name; put it first in its queue if it has no thread yet."""
        if name.lookup is None:
            name.lookup = asyncio.get_running_loop().create_future()
        lookup = name.lookup
        if name not in self._begun_at:
            queue = self._queues[name.speed]
            queue.pop(name, None)
            queue[name] = None
            self._start_queued()
        return lookup

    def _start_queued(self) -> None:
        for speed, queue in self._queues.items():
            while queue and self._has_thread_for(speed):
                self._start(queue.popitem()[0])
        if self._retry is None and any(self._queues.values()):
            self._retry = asyncio.get_running_loop().call_later(RETRY, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._start_queued()

    def _has_thread_for(self, speed: LookupSpeed) -> bool:
        """Return whether a name may have a thread.

        Slow lookups block their threads for long. The others may use only one in ``QUICK_PART`` of
        the threads that these leave. If they become slow as well, the same part of the rest is
        free, so there always is a thread for the next quick lookup.
        """
        slow_since = self._monotonic() - SLOW
        slow = sum(begun_at <= slow_since for begun_at in self._begun_at.values())
        left = self._limits[speed] - slow
        return QUICK_PART * (self.thread_count - slow) < left

    def _start(self, name: CachedName) -> None:
        loop = asyncio.get_running_loop()
        self._begun_at[name] = self._monotonic()

        def work() -> None:
            answer = self._answer(name.host)
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._finish, name, answer)

        try:
            # A daemon: the server does not wait for the DNS when it ends.
            Thread(target=work, name="lookup", daemon=True).start()
        except RuntimeError as exc:
            loop.call_soon(self._finish, name, out_of_resources(str(exc)))

    def _finish(self, name: CachedName, answer: Answer) -> None:
        now = self._monotonic()
        name.learn(answer, now=now, took=now - self._begun_at.pop(name))
        if name.lookup is not None:
            name.lookup.set_result(answer)
            name.lookup = None
        self._start_queued()

    def _answer(self, host: str) -> Answer:
        """Resolve a host. Runs in a thread, and may take long."""
        try:
            found = tuple(self._look_up(host))
        except socket.gaierror as exc:
            failure = _lookup_failure(host, exc)
        except OSError as exc:
            reason = exc.strerror or str(exc)
            is_ours = exc.errno in EXHAUSTED
            failure = out_of_resources(reason) if is_ours else unresolved(host, reason)
        except ValueError as exc:  # such as a label that is too long for the DNS
            failure = unresolved(host, str(exc), unknown=True)
        else:
            return found or unresolved(host, "it has no addresses", unknown=True)
        # Without descriptors, /etc/hosts and /etc/resolv.conf cannot be read.
        return out_of_resources("Too many open files") if is_out_of_descriptors() else failure


def _lookup_failure(host: str, exc: socket.gaierror) -> Outcome:
    reason = exc.strerror or str(exc)
    if exc.errno == socket.EAI_MEMORY:
        return out_of_resources(reason)
    if exc.errno == socket.EAI_AGAIN:  # the DNS did not answer: the name may well exist
        return unresolved(host, reason)
    return unresolved(host, reason, unknown=True)


def unresolved(host: str, reason: str, *, unknown: bool = False) -> Outcome:
    """Return the outcome of a failed lookup; ``unknown`` means that the name does not exist."""
    error = f"the name {host} cannot be resolved: {reason}"
    return Outcome(error=error, cause=Cause.UNKNOWN_HOST if unknown else Cause.LOOKUP_FAILED)
