"""Counts of failure groups, computed in slices so that other reads can run between them."""

from __future__ import annotations

from poussetaches.core.failures import FailureGroup
from poussetaches.core.task import TaskState
from poussetaches.store.base import FailureCount
from poussetaches.store.sqlite.row_reader import Reading
from poussetaches.store.sqlite.rows import text_of

SLICE = 5_000  # tasks per read: keeps each under ~50 ms


class FailureCounter:
    """Counts the failure groups of dead tasks, or those of waiting and running tasks."""

    def __init__(self, state: TaskState) -> None:
        self._state = TaskState.DEAD if state is TaskState.DEAD else TaskState.WAITING
        self._found: dict[str, FailureCount] = {}
        self._last = ("", 0)  # group and number of the task that was counted last

    def count_next(self, reading: Reading) -> bool:
        """Count the next tasks; return whether there are more."""
        group, seq = self._last
        state = self._state.value
        rows = reading.all("failures", state=state, group=group, seq=seq, limit=SLICE)
        for id, queue, url_path, status, error, count, first_at, last_at, newest, example in rows:
            earlier = self._found.get(id)
            self._found[id] = FailureCount(
                group=FailureGroup(
                    queue=text_of(queue),
                    url_path=text_of(url_path),
                    status=status,
                    error=text_of(error),
                ),
                count=count + (0 if earlier is None else earlier.count),
                first_at=first_at if earlier is None else min(first_at, earlier.first_at),
                last_at=last_at if earlier is None else max(last_at, earlier.last_at),
                example_id=text_of(example),
            )
            self._last = (id, newest)
        counted: int = sum(row[5] for row in rows)
        return counted == SLICE

    def result(self) -> list[FailureCount]:
        """Return the counts, the largest group first."""
        return sorted(self._found.values(), key=lambda one: (-one.count, -one.last_at))
