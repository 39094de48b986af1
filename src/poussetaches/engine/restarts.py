"""``Restarts``: restarts of an application cost its tasks no attempt, unless they cause them."""

from __future__ import annotations

MOST_FORGIVEN = 2  # in a row, for one task
MOST_TASKS = 10_000  # remembered; the task that was forgiven longest ago is forgotten first


class Restarts:
    """Counts how often in a row the application stopped while it had a task.

    A task that ends its application's process each time must die like any other, so only the
    first restarts in a row are forgiven.
    """

    def __init__(self) -> None:
        self._forgiven: dict[str, int] = {}

    def forgives(self, task_id: str) -> bool:
        """Count a restart during an attempt; return whether the attempt is put back."""
        count = self._forgiven.pop(task_id, 0)
        if count == MOST_FORGIVEN:
            return False
        self._forgiven[task_id] = count + 1
        if len(self._forgiven) > MOST_TASKS:
            del self._forgiven[next(iter(self._forgiven))]
        return True

    def attempted(self, task_id: str) -> None:
        """Forget the restarts of a task after an attempt that counts."""
        self._forgiven.pop(task_id, None)
