"""What the settings came to: one typed field for each row of the table."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one server. All durations are seconds, all sizes bytes."""

    host: str
    port: int
    uds: Path | None

    data_dir: Path
    commit_window: float

    log_format: str
    log_level: str

    api_token: str | None
    read_token: str | None
    allow_unauthenticated: bool
    allow_host: tuple[str, ...]
    allow_target: tuple[str, ...]
    auth_key: str | None
    key_target: tuple[str, ...]
    signing_secret: tuple[bytes, ...]  # the new one first
    secret_header: tuple[str, ...]
    alert_url: str | None

    base_url: str | None
    queues: str
    start_paused: bool
    drain_timeout: float
    max_in_flight: int
    concurrency: int
    origin_concurrency: int | None
    rate: float | None  # attempts a second
    burst: int
    timeout: float
    connect_timeout: float
    hold_for: float
    max_body: int
    max_request: int
    max_batch: int

    max_attempts: int
    min_backoff: float
    multiplier: float
    max_backoff: float
    jitter: float
    max_age: float | None
    max_retry_after: float
    dead_on: tuple[int | str, ...]

    original_max_attempts: int
    original_min_backoff: float
    original_multiplier: float
    original_max_backoff: float | None
    original_jitter: float

    keep_succeeded_count: int
    keep_succeeded_age: float
    keep_dead_count: int
    keep_dead_age: float

    test_mode: bool
