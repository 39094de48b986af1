"""``Queues``: all queues with the settings in force, and the allowed targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from poussetaches.core.changes import PathTarget
from poussetaches.core.queue import Lane, Queue, QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.core.target import absolute_url, is_path, origin_of
from poussetaches.core.target_allowlist import AllowedTargets
from poussetaches.core.task import DeliveryForm, Task

EVERYWHERE = AllowedTargets()


class Queues:
    """All queues of the store. Changed only after a commit."""

    def __init__(
        self,
        defaults: QueueSettings,
        *,
        original_retry: RetryPolicy,
        allowed: AllowedTargets = EVERYWHERE,
    ) -> None:
        self.allowed = allowed
        self._defaults = defaults
        self._original_retry = original_retry
        self._queues: dict[str, Queue] = {}
        self._settings: dict[str, QueueSettings] = {}

    def update(self, queues: Mapping[str, Queue | None]) -> None:
        """Apply new and changed queues, and (None) deleted ones."""
        for name, queue in queues.items():
            self._settings.pop(name, None)
            if queue is None:
                self._queues.pop(name, None)
            else:
                self._queues[name] = queue

    def __len__(self) -> int:
        return len(self._queues)

    def __iter__(self) -> Iterator[Queue]:
        return iter(self._queues.values())

    def get(self, name: str) -> Queue | None:
        """Return a queue; None if it does not exist."""
        return self._queues.get(name)

    def is_paused(self, name: str) -> bool:
        """Return whether a queue is paused by name."""
        queue = self._queues.get(name)
        return queue is not None and queue.paused

    def settings_of(self, name: str) -> QueueSettings:
        """Return the settings in force for a queue: its own take precedence over the server's."""
        settings = self._settings.get(name)
        if settings is None:
            queue = self._queues.get(name)
            if queue is None:
                return self._defaults
            settings = self._settings[name] = queue.overrides.over(self._defaults)
        return settings

    def path_target(self, path: str) -> PathTarget:
        """Return the base URLs and rules by which a path is checked in any queue."""
        return PathTarget(
            path=path,
            base_urls={
                name: queue.overrides.base_url
                for name, queue in self._queues.items()
                if queue.overrides.base_url is not None
            },
            default=self._defaults.base_url,
            allowed=self.allowed,
        )

    def policy_of(self, task: Task) -> RetryPolicy:
        """Return the retry policy of a task; the original's envelope has a separate one."""
        if task.delivery is DeliveryForm.ENVELOPE:
            return self._original_retry
        policy = self.settings_of(task.queue).retry
        return policy if task.retry is None else task.retry.over(policy)

    def url_of(self, task: Task) -> str | None:
        """Return the URL that a task is sent to; None for a path if its queue has no base URL."""
        if not is_path(task.url):
            return task.url
        base_url = self.settings_of(task.queue).base_url
        return None if base_url is None else absolute_url(base_url, task.url)

    def origin_of(self, lane: Lane) -> str:
        """Return the origin that a lane leads to now; ``""`` if it has none."""
        if lane.origin:
            return lane.origin
        base_url = self.settings_of(lane.queue).base_url
        return "" if base_url is None else origin_of(base_url)
