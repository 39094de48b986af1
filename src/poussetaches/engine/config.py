"""What the engine is told to do: its limits, policies and keys."""

from __future__ import annotations

import msgspec

from poussetaches.core.queue import QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.core.task import Task


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the engine. Durations are seconds."""

    queue: QueueSettings = QueueSettings()
    original_retry: RetryPolicy = RetryPolicy(max_backoff=None)
    max_in_flight: int = 256
    hold_for: float = 3600.0
    auth_key: str | None = None
    key_targets: frozenset[str] = frozenset()

    def settings_of(self, queue: str) -> QueueSettings:
        """Return the limits of a queue."""
        return self.queue

    def policy_of(self, task: Task) -> RetryPolicy:
        """Return the retry policy of a task; those in the original's envelope have their own."""
        return self.original_retry if task.envelope else self.settings_of(task.queue).retry
