"""``ServerLimits``: the limits of the whole server on starting attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poussetaches.core.wait_reason import WaitReason
from poussetaches.engine.limits import Limit, Scope, room_in
from poussetaches.engine.shortage import Shortage
from poussetaches.store.base import Store


class ServerLimits:
    """The state of the server and its store, and the attempts that may be in flight in all."""

    def __init__(
        self,
        *,
        store: Store,
        shortage: Shortage,
        in_flight: Callable[[], int],
        max_in_flight: int,
    ) -> None:
        self._store = store
        self._shortage = shortage
        self._in_flight = in_flight
        self._max_in_flight = max_in_flight
        self.is_starting = False
        self.is_draining = False

    @property
    def room(self) -> int:
        """The number of attempts that the server may start now."""
        return 0 if self.of_state() else room_in(self.of_slots())

    @property
    def more_slots_at(self) -> float | None:
        """The time (monotonic) at which a shortage allows more slots; None if there is none."""
        return self._shortage.next_step_at(self._max_in_flight)

    @property
    def allows_attempts(self) -> bool:
        """Whether the state of the server and its store permits attempts."""
        return not self.of_state()

    def of_state(self) -> Sequence[Limit]:
        """Return the states that permit no attempts at all."""
        trouble = self._store.trouble
        if trouble is None and not (self.is_draining or self.is_starting):
            return ()
        found = []
        if self.is_draining:
            found.append(Limit(WaitReason.DRAINING, Scope.SERVER))
        elif self.is_starting:
            found.append(Limit(WaitReason.STARTING, Scope.SERVER))
        if trouble is not None:
            found.append(Limit(WaitReason.STORE_FULL, Scope.SERVER, error=trouble.reason))
        return found

    def of_slots(self) -> list[Limit]:
        """Return the limit of attempts in flight, which is lower during a shortage."""
        most, in_flight = self._shortage.most_in_flight(self._max_in_flight), self._in_flight()
        room = most - in_flight
        error = self._shortage.error if room <= 0 else None
        reason = WaitReason.CONCURRENCY if error is None else WaitReason.OUT_OF_RESOURCES
        return [
            Limit(
                reason,
                Scope.SERVER,
                room=room,
                in_flight=in_flight,
                most=most,
                error=error or "",
            )
        ]
