"""Retry policies.

A field of the retry policy is in four structs: the policy in force, what is stored of it, what
requests may set of it, and the sources of its values.
"""

from __future__ import annotations

from random import Random
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from poussetaches.core.errors import InvalidTask
from poussetaches.core.json_storage import Stored
from poussetaches.core.setting_source import Source

TEN_YEARS = 315_360_000  # seconds; nothing may be planned farther ahead

StatusRule = int | str  # a status, or a class of statuses: 200 or "2xx"

# Limits of requests.
Wait = Annotated[float, Meta(ge=0, le=TEN_YEARS)]  # seconds
Attempts = Annotated[int, Meta(ge=1, le=1000)]
Multiplier = Annotated[float, Meta(ge=1, le=1000)]
Jitter = Annotated[float, Meta(ge=0, le=1)]
Status = Annotated[int, Meta(ge=100, le=599)]
StatusClass = Annotated[
    str,
    Meta(pattern=r"^[1-5]xx$(?!\n)", description='a class of statuses like "2xx"'),
]
StatusField = Status | StatusClass


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
    """The fields of the policy that a task or a queue overrides. Null means no override."""

    max_attempts: int | None = None
    min_backoff: float | None = None
    multiplier: float | None = None
    max_backoff: float | None = None
    jitter: float | None = None
    max_age: float | None = None
    max_retry_after: float | None = None
    dead_on: tuple[StatusRule, ...] | None = None

    def over(self, policy: RetryPolicy) -> RetryPolicy:
        """Return a policy with these values in place of its own."""
        return msgspec.structs.replace(policy, **overrides_of(self))


class RetryFields(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Fields of the retry policy of a task or a queue. Null means the inherited value."""

    max_attempts: Attempts | None = None
    min_backoff: Wait | None = None
    multiplier: Multiplier | None = None
    max_backoff: Wait | None = None
    jitter: Jitter | None = None
    max_age: Wait | None = None
    max_retry_after: Wait | None = None
    dead_on: Annotated[tuple[StatusField, ...], Meta(max_length=32)] | None = None

    def overrides(self) -> RetryOverrides:
        """Return the fields as they are stored."""
        return RetryOverrides(**msgspec.structs.asdict(self))


class RetrySources(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of the fields of a queue's retry policy."""

    max_attempts: Source
    min_backoff: Source
    multiplier: Source
    max_backoff: Source
    jitter: Source
    max_age: Source
    max_retry_after: Source
    dead_on: Source


RETRY = msgspec.json.Decoder(RetryOverrides)


def overrides_of(overrides: Stored) -> dict[str, Any]:
    """Return the fields of a struct that are set and known, by their names."""
    found = msgspec.structs.asdict(overrides)
    del found["unknown"]
    return {name: value for name, value in found.items() if value is not None}


def check_retry(retry: RetryFields | RetryOverrides) -> None:
    """Check that the shortest backoff is not longer than the longest.

    Raises:
        InvalidTask: it is longer.
    """
    shortest, longest = retry.min_backoff, retry.max_backoff
    if shortest is not None and longest is not None and shortest > longest:
        raise InvalidTask("retry.min_backoff", "must not be longer than max_backoff")


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
    """Return whether a status is one of the statuses and classes given."""
    return status in rules or f"{status // 100}xx" in rules
