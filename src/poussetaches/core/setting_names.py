"""The names of all settings, as environment variables without their prefix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

PREFIX = "POUSSETACHES_"
# Of an application. Of a secret, NAME_FILE names a file instead.
SECRETS = ("API_TOKEN", "AUTH_KEY", "SIGNING_SECRET")
APPLICATION = ("URL", *SECRETS, "PUBLIC_PREFIX", "MODE")
APPLICATION_ONLY = ("URL", "PUBLIC_PREFIX", "MODE")
# Of the server alone, whose environment an application may share. They are listed here because
# applications must not import the table of the server's settings.
_SERVER = (
    "HOST PORT UDS DATA_DIR COMMIT_WINDOW LOG_FORMAT LOG_LEVEL ALERT_URL READ_TOKEN "
    "ALLOW_UNAUTHENTICATED ALLOW_HOST ALLOW_TARGET KEY_TARGET SECRET_HEADER START_PAUSED "
    "DRAIN_TIMEOUT MAX_IN_FLIGHT CONNECT_TIMEOUT HOLD_FOR QUEUES BASE_URL CONCURRENCY "
    "ORIGIN_CONCURRENCY RATE BURST TIMEOUT MAX_BODY MAX_REQUEST MAX_BATCH MAX_ATTEMPTS "
    "MIN_BACKOFF MULTIPLIER MAX_BACKOFF JITTER MAX_AGE MAX_RETRY_AFTER DEAD_ON "
    "ORIGINAL_MAX_ATTEMPTS ORIGINAL_MIN_BACKOFF ORIGINAL_MULTIPLIER ORIGINAL_MAX_BACKOFF "
    "ORIGINAL_JITTER KEEP_SUCCEEDED_COUNT KEEP_SUCCEEDED_AGE KEEP_DEAD_COUNT KEEP_DEAD_AGE "
    "TEST_MODE CONFIG"
)
SERVER = frozenset(_SERVER.split())


def similar_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to an unknown one; None if none is."""
    # Without the prefix, which would make all names similar.
    by_suffix = {other.removeprefix(PREFIX): other for other in known}
    close = get_close_matches(name.removeprefix(PREFIX), by_suffix, n=1)
    return by_suffix[close[0]] if close else None
