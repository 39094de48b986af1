"""When to try again after a failed attempt."""

from __future__ import annotations

from random import Random
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from poussetaches.core.stored import Stored

TEN_YEARS = 315_360_000  # seconds; nothing may be planned farther ahead

StatusRule = int | str  # a status, or a class of statuses: 200 or "2xx"

Wait = Annotated[float, Meta(ge=0, le=TEN_YEARS)]  # seconds; as requests give them


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


class RetryOverrides(Stored, frozen=True, kw_only=True, omit_defaults=True):
    """What a task or a queue sets of its policy. Null takes what the next one up has."""

    max_attempts: int | None = None
    min_backoff: float | None = None
    multiplier: float | None = None
    max_backoff: float | None = None
    jitter: float | None = None
    max_age: float | None = None
    max_retry_after: float | None = None
    dead_on: tuple[StatusRule, ...] | None = None

    def over(self, policy: RetryPolicy) -> RetryPolicy:
        """Return a policy with what is set here in the place of its own."""
        return msgspec.structs.replace(policy, **overrides_of(self))


RETRY = msgspec.json.Decoder(RetryOverrides)


def overrides_of(overrides: Stored) -> dict[str, Any]:
    """Return the fields of a struct that are set and known, by their names."""
    found = msgspec.structs.asdict(overrides)
    del found["unknown"]
    return {name: value for name, value in found.items() if value is not None}


def backoff(policy: RetryPolicy, attempt: int, random: Random) -> float:
    """Return the seconds to wait after attempt number ``attempt`` (from 1), jitter included."""
    longest = float("inf") if policy.max_backoff is None else policy.max_backoff
    try:
        wait = min(longest, policy.min_backoff * policy.multiplier ** (attempt - 1))
    except OverflowError:
        wait = longest
    wait = min(wait, float(TEN_YEARS))  # an uncapped policy ends there
    wait *= random.uniform(1 - policy.jitter, 1 + policy.jitter)
    return min(max(0.0, wait), 2.0 * TEN_YEARS)  # a stored policy may have any values


def matches(status: int, rules: tuple[StatusRule, ...]) -> bool:
    """Tell whether a status is one of the statuses and classes given."""
    return status in rules or f"{status // 100}xx" in rules
