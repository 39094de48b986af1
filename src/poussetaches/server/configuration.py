"""The settings as the parts want them."""

from __future__ import annotations

import secrets

from poussetaches.core.queue import QueueSettings, Retention
from poussetaches.core.retry import RetryPolicy
from poussetaches.core.target_allowlist import AllowedTargets
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.secret_mask import SecretMask
from poussetaches.server.descriptors import Descriptors
from poussetaches.settings import Settings


def engine_config(settings: Settings, descriptors: Descriptors) -> EngineConfig:
    """Return the engine's configuration."""
    return EngineConfig(
        queue=_queue_settings(settings),
        original_retry=RetryPolicy(
            max_attempts=settings.original_max_attempts,
            min_backoff=settings.original_min_backoff,
            multiplier=settings.original_multiplier,
            max_backoff=settings.original_max_backoff,
            jitter=settings.original_jitter,
        ),
        max_in_flight=descriptors.max_in_flight,
        max_probes=descriptors.probes,
        hold_for=settings.hold_for,
        auth_key=settings.auth_key,
        allowed=AllowedTargets(settings.allow_target),
        key_targets=frozenset(settings.key_target),
        signing_secrets=settings.signing_secret,
        attempt_secret=secrets.token_bytes(32),
    )


def secret_mask(settings: Settings) -> SecretMask:
    """Return the mask for secrets that an application may know and send back in a response."""
    texts = (settings.auth_key, settings.api_token, settings.read_token, settings.alert_url)
    return SecretMask(
        [*(text.encode() for text in texts if text is not None), *settings.signing_secret]
    )


def _queue_settings(settings: Settings) -> QueueSettings:
    return QueueSettings(
        rate=settings.rate,
        burst=settings.burst,
        concurrency=settings.concurrency,
        origin_concurrency=settings.origin_concurrency,
        timeout=settings.timeout,
        retry=RetryPolicy(
            max_attempts=settings.max_attempts,
            min_backoff=settings.min_backoff,
            multiplier=settings.multiplier,
            max_backoff=settings.max_backoff,
            jitter=settings.jitter,
            max_age=settings.max_age,
            max_retry_after=settings.max_retry_after,
            dead_on=settings.dead_on,
        ),
        base_url=settings.base_url,
        keep_succeeded=Retention(settings.keep_succeeded_count, settings.keep_succeeded_age),
        keep_dead=Retention(settings.keep_dead_count, settings.keep_dead_age),
    )
