"""``Origins``: unreachable origins are held and probed, and get slots step by step afterwards.

The tasks of a held origin wait, and lose no attempts. A bare TCP connect
probes it, less and less often; the first that succeeds releases it with one slot, and each
answer doubles the slots. An origin away for longer than ``hold_for`` is still probed, but its
due tasks are charged a failed attempt each, and so follow their own policy to its end.

The number of concurrent probes is limited, and a quarter of them is reserved for origins that
answered the last probe quickly, even if with a refusal. So any number of
silent origins does not delay the probes of the others.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

LONGEST_PROBE_INTERVAL = 30.0  # seconds
MAX_PROBES = 128  # concurrent; each takes a descriptor, and a silent host keeps it for a while
SLOW_PROBE = 1.0  # seconds; a probe that takes as long counts as slow
ALL_SLOTS = 1024  # an origin with as many slots has no limit any more


@dataclass(slots=True)
class UnreachableOrigin:
    """The state of an origin after a failed connection, until it has all its slots again."""

    error: str
    refused_at: float | None = None  # the first refusal since its last answer
    held: bool = True
    interval: float = 1.0
    probe_at: float = 0.0
    slots: int = 0
    probing: bool = False
    slow: bool = False  # the last connection attempt took long to fail


class Planned(NamedTuple):
    """A planned probe, void once its origin has another plan; ``order`` breaks ties of time."""

    at: float
    order: int
    origin: str


class Origins:
    """The state of unreachable origins. All times are seconds of the monotonic clock."""

    def __init__(self, *, hold_for: float, max_probes: int = MAX_PROBES) -> None:
        self._hold_for = hold_for
        self._max_probes = max_probes
        self._max_slow_probes = max(1, max_probes * 3 // 4)
        self._probe_count = self._slow_probe_count = 0  # under way
        self._planned: dict[bool, list[Planned]] = {False: [], True: []}  # heaps, by ``slow``
        self._order = count()
        self._away: dict[str, UnreachableOrigin] = {}
        self._absent: dict[str, float] = {}  # since when (monotonic), earliest first
        self._resolved: set[str] = set()
        self._in_flight: Counter[str] = Counter()
        self._opened: dict[str, None] = {}  # in their order

    def started(self, origin: str) -> None:
        """Take a slot for an attempt."""
        self._in_flight[origin] += 1

    def ended(self, origin: str) -> None:
        """Free the slot of an attempt."""
        away = self._away.get(origin)
        if away is not None and not away.held and away.slots <= self._in_flight[origin]:
            self._opened[origin] = None
        self._in_flight[origin] -= 1
        if not self._in_flight[origin]:
            del self._in_flight[origin]

    def in_flight(self, origin: str) -> int:
        """Return how many attempts to an origin are in flight."""
        return self._in_flight[origin]

    def take_opened(self) -> list[str]:
        """Return the origins that got new slots, each once."""
        if not self._opened:
            return []
        opened = list(self._opened)
        self._opened.clear()
        return opened

    def refused(self, origin: str, error: str, now: float, *, took: float = 0.0) -> bool:
        """Hold an origin that could not be connected to; return whether it was not held before.

        ``took`` is the duration of the attempt in seconds.
        """
        is_held = self.is_held(origin)
        away = self._away.setdefault(origin, UnreachableOrigin(error))
        self._begin_absence(origin, away, now)
        if is_held:
            return False
        away.held, away.error, away.interval, away.slots = True, error, 1.0, 0
        away.slow = took >= SLOW_PROBE
        self._plan_probe(origin, away, now + away.interval)
        return True

    def answered(self, origin: str) -> None:
        """Record that an origin answered; after a hold, this doubles its slots."""
        away = self._away.get(origin)
        if away is None:
            return
        away.refused_at = None  # the next refusal begins a new absence
        self._absent.pop(origin, None)
        if away.held:
            return
        self._opened[origin] = None
        away.slots *= 2
        if away.slots >= ALL_SLOTS:
            del self._away[origin]

    def discount_suspension(self, seconds: float) -> None:
        """Discount time in which the process was suspended and could not see an origin return."""
        for origin, refused_at in self._absent.items():
            self._away[origin].refused_at = self._absent[origin] = refused_at + seconds

    def resolved(self, origin: str) -> None:
        """Record that an origin's name could be resolved."""
        self._resolved.add(origin)

    def was_resolved(self, origin: str) -> bool:
        """Return whether an origin's name could be resolved before."""
        return origin in self._resolved

    def is_held(self, origin: str) -> bool:
        """Return whether nothing is to be sent to an origin."""
        return self.hold_error(origin) is not None

    def hold_error(self, origin: str) -> str | None:
        """Return why an origin is held; None if it is not."""
        away = self._away.get(origin)
        return away.error if away is not None and away.held else None

    def charged_error(self, origin: str, now: float) -> str | None:
        """Return the error that due tasks of an origin are charged with; None if they are not."""
        charges_at = self.charges_at(origin)
        return self._away[origin].error if charges_at is not None and charges_at <= now else None

    def charges_at(self, origin: str) -> float | None:
        """Return when a held origin's due tasks begin to be charged; None if it is not held."""
        away = self._away.get(origin)
        if away is None or not away.held or away.refused_at is None:
            return None
        return away.refused_at + self._hold_for

    def charges(self) -> Iterator[tuple[str, float]]:
        """Yield the held origins and when their due tasks begin to be charged, earliest first."""
        for origin, refused_at in self._absent.items():
            if self._away[origin].held:
                yield origin, refused_at + self._hold_for

    def slots(self, origin: str) -> int:
        """Return the maximum number of attempts in flight to an origin."""
        away = self._away.get(origin)
        return ALL_SLOTS if away is None else away.slots

    def begin_probes(self, now: float) -> list[str]:
        """Return the origins to be probed now; each waits for ``probed`` or ``not_probed``.

        If there are too many, the longest overdue come first.
        """
        begun = []
        while (planned := self._next_probe()) is not None and planned.at <= now:
            away = self._away[planned.origin]
            heapq.heappop(self._planned[away.slow])
            away.probing = True
            self._probe_count += 1
            self._slow_probe_count += away.slow
            begun.append(planned.origin)
        return begun

    def probed(self, origin: str, error: str | None, now: float, *, took: float = 0.0) -> None:
        """Release an origin that could be connected to, or plan its next probe.

        ``took`` is the duration of the probe in seconds.
        """
        away = self._end_probe(origin)
        if error is None:
            away.held, away.slots, away.slow = False, 1, False
            self._opened[origin] = None
            return
        away.error = error
        away.slow = took >= SLOW_PROBE
        self._begin_absence(origin, away, now)
        away.interval = min(away.interval * 2, LONGEST_PROBE_INTERVAL)
        self._plan_probe(origin, away, now + away.interval)

    def not_probed(self, origin: str, now: float) -> None:
        """Plan another probe, since this machine had no resources for the last one."""
        away = self._end_probe(origin)
        self._plan_probe(origin, away, now + away.interval)

    def next_probe_at(self) -> float | None:
        """Return when the next probe is due; None if there is none or another must end first."""
        planned = self._next_probe()
        return None if planned is None else planned.at

    def _begin_absence(self, origin: str, away: UnreachableOrigin, now: float) -> None:
        if away.refused_at is None:
            away.refused_at = self._absent[origin] = now

    def _plan_probe(self, origin: str, away: UnreachableOrigin, at: float) -> None:
        away.probe_at = at
        heapq.heappush(self._planned[away.slow], Planned(at, next(self._order), origin))

    def _next_probe(self) -> Planned | None:
        """Return the earliest planned probe that the limits allow."""
        found = []
        for is_slow, planned in self._planned.items():
            while planned and not self._is_valid(planned[0], is_slow=is_slow):
                heapq.heappop(planned)
            if planned and self._has_probe_for(is_slow):
                found.append(planned[0])
        return min(found, default=None)

    def _is_valid(self, planned: Planned, *, is_slow: bool) -> bool:
        away = self._away.get(planned.origin)
        if away is None or not away.held or away.probing:
            return False
        return away.probe_at == planned.at and away.slow is is_slow

    def _has_probe_for(self, is_slow: bool) -> bool:
        if is_slow and self._slow_probe_count >= self._max_slow_probes:
            return False
        return self._probe_count < self._max_probes

    def _end_probe(self, origin: str) -> UnreachableOrigin:
        away = self._away[origin]
        away.probing = False
        self._probe_count -= 1
        self._slow_probe_count -= away.slow
        return away

    def forget_all_but(self, origins: Collection[str]) -> None:
        """Forget all other origins, which have no tasks left."""
        self._resolved.intersection_update(origins)
        for origin in [name for name in self._away if name not in origins]:
            if not self._away[origin].probing:
                del self._away[origin]
                self._absent.pop(origin, None)

    def held(self) -> dict[str, str]:
        """Return the origins that are held, with the error of each."""
        return {origin: away.error for origin, away in self._away.items() if away.held}
