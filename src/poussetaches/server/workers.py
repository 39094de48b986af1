"""Checks whether the application's server has enough workers for the tasks delivered to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from poussetaches.core.queue import QueueSettings

WorkerWarning = tuple[str, Mapping[str, object]]  # a log event and its fields


@dataclass(frozen=True)
class Workers:
    """The requests that a server handles at once, and how long one may take, in seconds."""

    capacity: int
    timeout: float | None = None  # None without a limit


def worker_warnings(
    workers: Workers, queues: Sequence[QueueSettings], *, max_in_flight: int, shared: bool
) -> list[WorkerWarning]:
    """Return what will go wrong when the tasks of some queues are delivered to a server.

    ``shared`` says whether the server also handles the application's other requests.
    """
    found: list[WorkerWarning] = []
    slots = min(max_in_flight, sum(map(_slots_of, queues)))
    needed = slots + shared
    if workers.capacity < needed:
        advice = (
            f"start at least {needed} workers or threads (gunicorn --threads), or lower the"
            " concurrency of the queues"
        )
        if shared:
            advice += ", or start a second process for tasks with --tasks"
        fields = {"workers": workers.capacity, "slots": slots, "advice": advice}
        found.append(("tasks can occupy every worker of the application", fields))
    timeout = max((queue.timeout for queue in queues), default=0.0)
    if workers.timeout is not None and workers.timeout < timeout:
        fields = {
            "gunicorn_timeout": workers.timeout,
            "timeout": timeout,
            "advice": "give gunicorn --threads 8 (threads are not killed) or a longer --timeout,"
            " or lower the timeout of tasks",
        }
        found.append(("gunicorn kills its worker before the timeout of tasks", fields))
    return found


def _slots_of(queue: QueueSettings) -> int:
    """Return how many tasks of a queue can run in one application at once."""
    if queue.origin_concurrency is None:
        return queue.concurrency
    return min(queue.concurrency, queue.origin_concurrency)
