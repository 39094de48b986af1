"""Derives the configuration of the engine and the secrets to mask from the settings."""

from __future__ import annotations

import secrets

from poussetaches.core.target_allowlist import AllowedTargets
from poussetaches.engine.engine_config import EngineConfig
from poussetaches.engine.secret_mask import SecretMask
from poussetaches.server.descriptors import Descriptors
from poussetaches.settings import Settings


def engine_config(settings: Settings, descriptors: Descriptors) -> EngineConfig:
    """Return the engine's configuration."""
    security = settings.security
    return EngineConfig(
        queue=settings.queue_settings,
        original_retry=settings.original_retry_policy,
        max_in_flight=descriptors.max_in_flight,
        max_probes=descriptors.probes,
        hold_for=settings.delivery.hold_for,
        auth_key=security.auth_key,
        allowed=AllowedTargets(security.allow_target),
        key_targets=frozenset(security.key_target),
        signing_secrets=security.signing_secret,
        attempt_secret=secrets.token_bytes(32),
    )


def secret_mask(settings: Settings) -> SecretMask:
    """Return the masking of secrets that an application may know and send back in a response."""
    security = settings.security
    texts = (
        security.auth_key,
        security.api_token,
        security.read_token,
        settings.logging.alert_url,
    )
    return SecretMask(
        [*(text.encode() for text in texts if text is not None), *security.signing_secret]
    )
