"""``DeadlineWheel``: the time limits of many requests, at less cost than a timer for each."""

from __future__ import annotations

import asyncio
from typing import Protocol

from poussetaches.http_client.deadline import GRACE, LATE

SLOTS = 8  # per second: a request ends at most 1/8 s after its deadline


class Limited(Protocol):
    """A request with a deadline. The wheel sets ``slot``."""

    slot: int

    def time_out(self) -> None:
        """End it: its deadline has passed."""


class DeadlineWheel:
    """Groups deadlines by eighths of a second, with one timer for the earliest group.

    Nearly all requests end long before their deadlines, so adding and removing one must be cheap.
    A process that was suspended gets time to read what arrived meanwhile, as by ``Deadline``.
    """

    def __init__(self) -> None:
        self._slots: dict[int, set[Limited]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._planned = 0  # the slot of the timer

    def add(self, at: float, limited: Limited) -> None:
        """Add a deadline at a moment of the event loop's time."""
        slot = limited.slot = int(at * SLOTS) + 1
        members = self._slots.get(slot)
        if members is None:
            members = self._slots[slot] = set()
            if self._timer is None or slot < self._planned:
                self._plan(slot)
        members.add(limited)

    def remove(self, limited: Limited) -> None:
        """Remove a deadline that was added and has not passed."""
        members = self._slots[limited.slot]
        members.remove(limited)
        if not members:
            del self._slots[limited.slot]

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _plan(self, slot: int) -> None:
        self.close()
        self._planned = slot
        self._timer = asyncio.get_running_loop().call_at(slot / SLOTS, self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        was_suspended = now - self._planned / SLOTS > LATE
        for slot in [slot for slot in self._slots if slot / SLOTS <= now]:
            for limited in list(self._slots[slot]):
                self.remove(limited)
                if was_suspended:
                    self.add(now + GRACE, limited)
                else:
                    limited.time_out()
        if self._slots:
            self._plan(min(self._slots))
