"""Checks whether the application's server has enough workers for the tasks delivered to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from poussetaches.core.queue import CALLBACKS_QUEUE, QueueSettings
from poussetaches.core.target import is_path, origin_of
from poussetaches.engine.queues import Queues

WorkerWarning = tuple[str, Mapping[str, object]]  # a log event and its fields


@dataclass(frozen=True)
class Workers:
    """The requests that a server handles at once, and how long one may take, in seconds."""

    capacity: int
    timeout: float | None = None  # None without a limit


def queues_to(base_url: str, queues: Queues, *, used: Iterable[str]) -> list[QueueSettings]:
    """Return the settings of the queues whose tasks are delivered to an application.

    An undeclared queue, such as that of the callbacks, is created by its first task. Queues that
    the application reports as used (``used``) are included before. So is the queue of callbacks if
    a callback of a queue is a URL of the application.
    """
    origin = origin_of(base_url)
    names = dict.fromkeys([*(queue.name for queue in queues), *used])
    found = {name: queues.settings_of(name) for name in names}
    callbacks = [url for each in found.values() for url in (each.on_success, each.on_dead) if url]
    if any(is_path(url) or origin_of(url) == origin for url in callbacks):
        found[CALLBACKS_QUEUE] = queues.settings_of(CALLBACKS_QUEUE)
    return [
        each for each in found.values() if each.base_url and origin_of(each.base_url) == origin
    ]


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
