"""When to try again after a failed attempt."""

from __future__ import annotations

from random import Random

import msgspec

# A status or a class of statuses: 200 or "2xx".
StatusRule = int | str


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how long a task is tried. All durations are seconds."""

    max_attempts: int = 12
    min_backoff: float = 1.0
    multiplier: float = 4.0
    max_backoff: float | None = 21_600.0
    jitter: float = 0.3
    max_age: float | None = None
    max_retry_after: float = 3600.0
    dead_on: tuple[StatusRule, ...] = ()


def backoff(policy: RetryPolicy, attempt: int, random: Random) -> float:
    """Return the seconds to wait after attempt number ``attempt`` (from 1), jitter included."""
    longest = float("inf") if policy.max_backoff is None else policy.max_backoff
    try:
        wait = min(longest, policy.min_backoff * policy.multiplier ** (attempt - 1))
    except OverflowError:
        wait = longest
    # Ten years, the farthest that any task may be planned: an uncapped policy ends there.
    wait = min(wait, 315_360_000.0)
    return wait * random.uniform(1 - policy.jitter, 1 + policy.jitter)


def matches(status: int, rules: tuple[StatusRule, ...]) -> bool:
    """Tell whether a status is one of the statuses and classes given."""
    return status in rules or f"{status // 100}xx" in rules
