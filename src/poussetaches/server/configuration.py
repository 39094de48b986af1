"""The configuration of the engine and the secrets to mask, as the settings have them."""

from __future__ import annotations

import secrets

from poussetaches.core.allowed import AllowedTargets
from poussetaches.engine.config import EngineConfig
from poussetaches.engine.masking import Masking
from poussetaches.server.descriptors import Descriptors
from poussetaches.settings import Settings


def engine_config(settings: Settings, descriptors: Descriptors) -> EngineConfig:
    """Return the engine's configuration."""
    security = settings.security
    return EngineConfig(
        queue=settings.queue_settings,
        original_retry=settings.original_retry_policy,
        max_in_flight=descriptors.max_in_flight,
        most_probes=descriptors.probes,
        hold_for=settings.delivery.hold_for,
        auth_key=security.auth_key,
        allowed=AllowedTargets(security.allow_target),
        key_targets=frozenset(security.key_target),
        signing_secrets=security.signing_secret,
        attempt_secret=secrets.token_bytes(32),
    )


def masking(settings: Settings) -> Masking:
    """Return the masking of secrets that an application may know and send back in a response."""
    security = settings.security
    texts = (
        security.auth_key,
        security.api_token,
        security.read_token,
        settings.logging.alert_url,
    )
    return Masking(
        [*(text.encode() for text in texts if text is not None), *security.signing_secret]
    )
