"""Queues: named groups of tasks with limits of their own; the token bucket behind a rate."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from poussetaches.core.retry import RetryPolicy

DEFAULT_QUEUE = "default"


class Lane(NamedTuple):
    """The tasks of one queue that go to one origin: what limits and turns are counted by."""

    queue: str
    origin: str


class Retention(msgspec.Struct, frozen=True):
    """How many ended tasks are kept, and for how many seconds; whichever is reached first."""

    count: int
    age: float


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that hold for one queue."""

    rate: float | None = None  # attempts a second; None is unlimited
    burst: int = 1
    concurrency: int = 4
    origin_concurrency: int | None = None
    timeout: float = 600.0
    retry: RetryPolicy = RetryPolicy()
    keep_succeeded: Retention = Retention(count=10_000, age=86_400.0)
    keep_dead: Retention = Retention(count=100_000, age=7_776_000.0)


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks of a queue are in each state; failing ones wait after a failed attempt."""

    waiting: int = 0
    running: int = 0
    succeeded: int = 0
    dead: int = 0
    failing: int = 0


class TokenBucket(msgspec.Struct, frozen=True):
    """Tokens that grow by ``rate`` a second up to ``burst``; an attempt takes one.

    ``at`` is a reading of the monotonic clock, in seconds.
    """

    rate: float
    burst: int
    tokens: float
    at: float

    @classmethod
    def full(cls, rate: float, burst: int, now: float) -> TokenBucket:
        """Return a bucket with all its tokens."""
        return cls(rate, burst, float(burst), now)

    def refilled(self, now: float) -> TokenBucket:
        """Return the bucket as it is at a later time."""
        grown = self.tokens + max(0.0, now - self.at) * self.rate
        return msgspec.structs.replace(self, tokens=min(float(self.burst), grown), at=now)

    def taken(self, count: int) -> TokenBucket:
        """Return the bucket after some tokens were taken, or given back when negative."""
        return msgspec.structs.replace(self, tokens=min(float(self.burst), self.tokens - count))

    @property
    def available(self) -> int:
        """How many whole tokens there are."""
        # A token that is short by a rounding error only must count, or it would never come: a
        # clock that has run for months rounds to 1e-9 s. What is short stays owing.
        return max(0, int(self.tokens + 1e-6))

    @property
    def wait(self) -> float:
        """Seconds until there is a whole token."""
        return max(0.0, (1 - self.tokens) / self.rate)
