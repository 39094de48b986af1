"""``TokenBuckets``: the tokens of queues with a limited rate."""

from __future__ import annotations

from collections.abc import Iterable

from poussetaches.core.queue import TokenBucket
from poussetaches.engine.clock import Clock
from poussetaches.engine.queue_registry import Queues

QUICKLY_FULL = 2.0  # seconds; a bucket that fills faster is not stored: a restart takes longer


class TokenBuckets:
    """Keeps the bucket of each queue, and the set of unsaved ones."""

    def __init__(self, queues: Queues, clock: Clock) -> None:
        self._queues = queues
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}
        self._full_at: dict[str, float] = {}  # monotonic; restored buckets of unused queues
        self._unsaved: set[str] = set()

    def of(self, queue: str) -> TokenBucket | None:
        """Return a queue's bucket as it is now; None if its rate is not limited."""
        settings = self._queues.settings_of(queue)
        if settings.rate is None:
            self._buckets.pop(queue, None)
            return None
        now, bucket = self._clock.monotonic(), self._buckets.get(queue)
        if bucket is None:
            full_in = self._full_at.pop(queue, now) - now
            bucket = TokenBucket.filling(settings.rate, settings.burst, full_in=full_in, now=now)
        bucket = bucket.refilled(now)
        if (bucket.rate, bucket.burst) != (settings.rate, settings.burst):
            # Tokens are carried over: repeated changes of a queue must not evade its rate.
            tokens = min(bucket.tokens, float(settings.burst))
            bucket = TokenBucket(settings.rate, settings.burst, tokens, now)
        self._buckets[queue] = bucket
        return bucket

    def take(self, queue: str) -> None:
        """Take the token for one attempt, if the queue's rate is limited."""
        bucket = self.of(queue)
        if bucket is None:
            return
        self._buckets[queue] = bucket.taken(1)
        if bucket.burst > bucket.rate * QUICKLY_FULL:
            self._unsaved.add(queue)

    def is_full(self, queue: str) -> bool:
        """Return whether a queue has all its tokens, so that its bucket can be forgotten."""
        bucket = self.of(queue)
        return bucket is None or bucket.tokens >= bucket.burst

    def forget(self, queue: str) -> None:
        """Forget a full bucket."""
        self._buckets.pop(queue, None)

    def restore(self, queue: str, *, full_at: float) -> None:
        """Restore the bucket of a queue, which is full at a monotonic time and not before."""
        self._full_at[queue] = full_at

    @property
    def has_unsaved(self) -> bool:
        """Whether a bucket has changed since it was stored."""
        return bool(self._unsaved)

    def mark_unsaved(self, queues: Iterable[str]) -> None:
        """Mark the buckets of queues as changed since they were stored."""
        self._unsaved.update(queues)

    def mark_all_unsaved(self) -> None:
        """Mark all buckets that are not full as changed: the clock of their records was set."""
        self.mark_unsaved(self._full_at)
        self.mark_unsaved([queue for queue in list(self._buckets) if self._full_in(queue)])

    def take_unsaved(self) -> dict[str, float]:
        """Return the changed buckets by queue, as the seconds until each is full."""
        unsaved, self._unsaved = self._unsaved, set()
        found = {queue: self._full_in(queue) for queue in sorted(unsaved)}
        return {queue: full_in for queue, full_in in found.items() if full_in is not None}

    def _full_in(self, queue: str) -> float | None:
        """Return the seconds until a bucket is full; None if the queue has none."""
        if queue in self._full_at:
            return max(0.0, self._full_at[queue] - self._clock.monotonic())
        bucket = self.of(queue) if queue in self._buckets else None
        return None if bucket is None else bucket.full_in
