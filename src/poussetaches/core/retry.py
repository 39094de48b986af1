"""When to try again after a failed attempt."""

from __future__ import annotations

from random import Random
from typing import Annotated

import msgspec
from msgspec import Meta

from poussetaches.core.errors import InvalidTask

TEN_YEARS = 315_360_000  # seconds; nothing may be planned farther ahead

# A status or a class of statuses: 200 or "2xx".
Status = Annotated[int, Meta(ge=100, le=599)]
StatusClass = Annotated[
    str,
    Meta(pattern=r"^[1-5]xx$(?!\n)", description='a status, or a class of statuses like "2xx"'),
]
StatusRule = Status | StatusClass
StatusRules = Annotated[tuple[StatusRule, ...], Meta(max_length=32)]

Wait = Annotated[float, Meta(ge=0, le=TEN_YEARS)]  # seconds


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


class RetryOverrides(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a task or a queue sets of its policy. Null takes what the next one up has."""

    max_attempts: Annotated[int, Meta(ge=1, le=1000)] | None = None
    min_backoff: Wait | None = None
    multiplier: Annotated[float, Meta(ge=1, le=1000)] | None = None
    max_backoff: Wait | None = None
    jitter: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_age: Wait | None = None
    max_retry_after: Wait | None = None
    dead_on: StatusRules | None = None

    def over(self, policy: RetryPolicy) -> RetryPolicy:
        """Return a policy with what is set here in the place of its own."""
        return msgspec.structs.replace(policy, **overrides_of(self))


def check_retry(retry: RetryOverrides) -> None:
    """Check that the shortest backoff is not longer than the longest.

    Raises:
        InvalidTask: it is longer.
    """
    shortest, longest = retry.min_backoff, retry.max_backoff
    if shortest is not None and longest is not None and shortest > longest:
        raise InvalidTask("retry.min_backoff", "is longer than max_backoff")


def overrides_of(overrides: msgspec.Struct) -> dict[str, object]:
    """Return the fields of a struct that are set, by their names."""
    found = msgspec.structs.asdict(overrides)
    return {name: value for name, value in found.items() if value is not None}


def backoff(policy: RetryPolicy, attempt: int, random: Random) -> float:
    """Return the seconds to wait after attempt number ``attempt`` (from 1), jitter included."""
    longest = float("inf") if policy.max_backoff is None else policy.max_backoff
    try:
        wait = min(longest, policy.min_backoff * policy.multiplier ** (attempt - 1))
    except OverflowError:
        wait = longest
    wait = min(wait, float(TEN_YEARS))  # an uncapped policy ends there
    return wait * random.uniform(1 - policy.jitter, 1 + policy.jitter)


def matches(status: int, rules: tuple[StatusRule, ...]) -> bool:
    """Tell whether a status is one of the statuses and classes given."""
    return status in rules or f"{status // 100}xx" in rules
