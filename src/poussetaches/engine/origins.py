"""Origins that cannot be reached are held, probed, and let go again gently.

A held origin costs its tasks nothing: they wait, whatever their number. A bare TCP connect
probes it, less and less often; the first that succeeds lets it go with one slot, and each
answer doubles the slots. An origin away for longer than ``hold_for`` is still probed, but its
due tasks are charged a failed attempt each, and so follow their own policy to its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

LONGEST_PROBE_INTERVAL = 30.0  # seconds
ALL_SLOTS = 1024  # an origin that has so many again is like any other


@dataclass(slots=True)
class Away:
    """What is known of an origin that refused, until it has answered enough again."""

    error: str
    refused_at: float | None = None  # the first refusal since its last answer
    held: bool = True
    interval: float = 1.0
    probe_at: float = 0.0
    slots: int = 0
    probing: bool = False


class Origins:
    """Which origins can be sent to. All times are seconds of the monotonic clock."""

    def __init__(self, *, hold_for: float) -> None:
        self._hold_for = hold_for
        self._away: dict[str, Away] = {}
        self._resolved: set[str] = set()
        self._on_wire: Counter[str] = Counter()
        self._opened: dict[str, None] = {}  # in their order

    def started(self, origin: str) -> None:
        """Take a slot for an attempt."""
        self._on_wire[origin] += 1

    def ended(self, origin: str) -> None:
        """Free the slot of an attempt."""
        away = self._away.get(origin)
        if away is not None and not away.held and away.slots <= self._on_wire[origin]:
            self._opened[origin] = None
        self._on_wire[origin] -= 1
        if not self._on_wire[origin]:
            del self._on_wire[origin]

    def on_wire(self, origin: str) -> int:
        """Return how many attempts are on the wire to an origin."""
        return self._on_wire[origin]

    def free_slots(self, origin: str) -> int:
        """Return how many more attempts may be on the wire to an origin."""
        away = self._away.get(origin)
        return ALL_SLOTS if away is None else away.slots - self._on_wire[origin]

    def take_opened(self) -> list[str]:
        """Return the origins that have a slot again, or more of them; each is told of once."""
        if not self._opened:
            return []
        opened = list(self._opened)
        self._opened.clear()
        return opened

    def refused(self, origin: str, error: str, now: float) -> bool:
        """Hold an origin that could not be connected to; tell whether it was not held before."""
        is_held = self.is_held(origin)
        away = self._away.setdefault(origin, Away(error))
        if away.refused_at is None:
            away.refused_at = now
        if is_held:
            return False
        away.held, away.error, away.interval, away.slots = True, error, 1.0, 0
        away.probe_at = now + away.interval
        return True

    def answered(self, origin: str) -> None:
        """Note that an origin answered; after a hold it may have twice the slots now."""
        away = self._away.get(origin)
        if away is None:
            return
        away.refused_at = None  # the next refusal begins a new absence
        if away.held:
            return
        self._opened[origin] = None
        away.slots *= 2
        if away.slots >= ALL_SLOTS:
            del self._away[origin]

    def resolved(self, origin: str) -> None:
        """Note that an origin's name is real."""
        self._resolved.add(origin)

    def was_resolved(self, origin: str) -> bool:
        """Tell whether an origin's name could ever be resolved."""
        return origin in self._resolved

    def is_held(self, origin: str) -> bool:
        """Tell whether nothing is to be sent to an origin."""
        away = self._away.get(origin)
        return away is not None and away.held

    def charged_error(self, origin: str, now: float) -> str | None:
        """Return what due tasks of an origin are charged with; None when they are not."""
        charges_at = self.charges_at(origin)
        return self._away[origin].error if charges_at is not None and charges_at <= now else None

    def charges_at(self, origin: str) -> float | None:
        """Return from when a held origin's due tasks are charged; None when it is not held."""
        away = self._away.get(origin)
        if away is None or not away.held or away.refused_at is None:
            return None
        return away.refused_at + self._hold_for

    def slots(self, origin: str) -> int:
        """Return how many attempts may be on the wire to an origin, those that are included."""
        away = self._away.get(origin)
        return ALL_SLOTS if away is None else away.slots

    def begin_probes(self, now: float) -> list[str]:
        """Return the origins to be probed now; each waits for ``probed``."""
        due = [
            origin
            for origin, away in self._away.items()
            if away.held and not away.probing and away.probe_at <= now
        ]
        for origin in due:
            self._away[origin].probing = True
        return due

    def probed(self, origin: str, error: str | None, now: float) -> None:
        """Let an origin go that could be connected to, or plan its next probe."""
        away = self._away[origin]
        away.probing = False
        if error is None:
            away.held, away.slots = False, 1
            self._opened[origin] = None
            return
        away.error = error
        if away.refused_at is None:
            away.refused_at = now
        away.interval = min(away.interval * 2, LONGEST_PROBE_INTERVAL)
        away.probe_at = now + away.interval

    def next_probe_at(self) -> float | None:
        """Return when the next probe is due; None when nothing is held."""
        times = [away.probe_at for away in self._away.values() if away.held and not away.probing]
        return min(times, default=None)

    def forget_all_but(self, origins: Collection[str]) -> None:
        """Forget the other origins: nobody sends to them any more."""
        self._resolved.intersection_update(origins)
        for origin in [name for name in self._away if name not in origins]:
            if not self._away[origin].probing:
                del self._away[origin]

    def held(self) -> dict[str, str]:
        """Return the origins that are held, with why."""
        return {origin: away.error for origin, away in self._away.items() if away.held}
