"""``Restarts``: restarts of an application cost its tasks no attempt, unless they cause them."""

from __future__ import annotations

from poussetaches.core.task import Task

MOST_FORGIVEN = 2  # for one attempt of a task
MOST_ATTEMPTS = 10_000  # remembered; the one that was forgiven longest ago is forgotten first


class Restarts:
    """Counts how often the application stopped during the same attempt of a task.

    A task that ends its application's process each time must die like any other, so only the
    first restarts are forgiven.
    """

    def __init__(self) -> None:
        self._forgiven: dict[tuple[str, int, int], int] = {}

    def forgives(self, task: Task) -> bool:
        """Count a restart during an attempt; return whether the attempt is put back."""
        attempt = (task.id, task.round, task.attempt_count)
        count = self._forgiven.pop(attempt, 0)
        if count == MOST_FORGIVEN:
            return False
        self._forgiven[attempt] = count + 1
        if len(self._forgiven) > MOST_ATTEMPTS:
            del self._forgiven[next(iter(self._forgiven))]
        return True
