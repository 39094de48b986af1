"""``EngineConfig``: limits, policies and keys of the engine."""

from __future__ import annotations

import msgspec

from poussetaches.core.allowed import AllowedTargets
from poussetaches.core.defaults import HOLD_FOR, MAX_IN_FLIGHT
from poussetaches.core.queue import QueueSettings
from poussetaches.core.retry import RetryPolicy
from poussetaches.engine.origins import MOST_PROBES


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the engine. Durations are seconds."""

    queue: QueueSettings = QueueSettings()  # for what a queue does not set itself
    original_retry: RetryPolicy = RetryPolicy(max_backoff=None)
    max_in_flight: int = MAX_IN_FLIGHT
    most_probes: int = MOST_PROBES
    hold_for: float = HOLD_FOR
    auth_key: str | None = None
    allowed: AllowedTargets = AllowedTargets()
    key_targets: frozenset[str] = frozenset()
    signing_secrets: tuple[bytes, ...] = ()  # each signs every delivery
    attempt_secret: bytes = b""  # makes the tokens of attempts; new at each start
