"""Queues: named groups of tasks with their own limits; the token bucket of a rate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from poussetaches.core.json_storage import Stored, decode, encode
from poussetaches.core.merge_patch import document_in, is_object, merged
from poussetaches.core.moment import Moment
from poussetaches.core.responses import QueueCounts, QueueResponse
from poussetaches.core.retry import RetryOverrides, RetryPolicy, RetrySources, overrides_of
from poussetaches.core.setting_source import Source, Sources

DEFAULT_QUEUE = "default"
CALLBACKS_QUEUE = "callbacks"
MAX_QUEUES = 20_000
# Of a queue or a schedule. $ alone would let a newline by.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$(?!\n)"
NAME_IN_WORDS = (
    "up to 100 letters, digits, dots, dashes and underscores, the first a letter or a digit"
)

MIN_RATE = 1e-6  # attempts a second: one in eleven days; less is a pause, not a rate
MAX_RATE = 1e6

Name = Annotated[str, Meta(pattern=NAME, description=NAME_IN_WORDS)]

RATE = r"^([0-9]+(?:\.[0-9]+)?|\.[0-9]+)/(s|min|h)$(?!\n)"  # such as "100/h"
_RATE = re.compile(RATE)
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}  # seconds


class Lane(NamedTuple):
    """The tasks of one queue for one origin. Lanes take turns.

    ``origin`` is empty for tasks whose URL is a path: they go where their queue's ``base_url``
    leads at the moment. Tasks with a manual run are in separate lanes, which no
    pause stops.
    """

    queue: str
    origin: str
    forced: bool = False


class Retention(msgspec.Struct, frozen=True):
    """The maximum number of ended tasks, and their maximum age in seconds."""

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
    base_url: str | None = None
    on_success: str | None = None
    on_dead: str | None = None
    keep_succeeded: Retention = Retention(count=10_000, age=86_400.0)
    keep_dead: Retention = Retention(count=100_000, age=7_776_000.0)


class ShownQueue(QueueResponse, frozen=True, kw_only=True):
    """A queue in responses: its name, its pause and the settings in force, in this order."""

    retry: RetryPolicy
    keep_succeeded: Retention
    keep_dead: Retention


class RetentionOverrides(Stored, frozen=True, kw_only=True, omit_defaults=True):
    """A queue's own limits of a retention. Null means the server's value."""

    count: int | None = None
    age: float | None = None

    def over(self, retention: Retention) -> Retention:
        """Return a retention with these limits in place of its own."""
        return msgspec.structs.replace(retention, **overrides_of(self))


class QueueOverrides(Stored, frozen=True, kw_only=True, omit_defaults=True):
    """A queue's own settings. Null means the server's value."""

    rate: Annotated[float, Meta(gt=0)] | None = None  # waits are quotients by it
    burst: int | None = None
    concurrency: int | None = None
    origin_concurrency: int | None = None
    timeout: float | None = None
    retry: RetryOverrides | None = None
    base_url: str | None = None
    on_success: str | None = None
    on_dead: str | None = None
    keep_succeeded: RetentionOverrides | None = None
    keep_dead: RetentionOverrides | None = None

    def over(self, settings: QueueSettings) -> QueueSettings:
        """Return settings with these values in place of their own."""
        changes = overrides_of(self)
        if self.retry is not None:
            changes["retry"] = self.retry.over(settings.retry)
        if self.keep_succeeded is not None:
            changes["keep_succeeded"] = self.keep_succeeded.over(settings.keep_succeeded)
        if self.keep_dead is not None:
            changes["keep_dead"] = self.keep_dead.over(settings.keep_dead)
        return msgspec.structs.replace(settings, **changes)


class RetentionSources(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of the limits of a retention."""

    count: Source
    age: Source


class QueueSources(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of a queue's settings."""

    rate: Source
    burst: Source
    concurrency: Source
    origin_concurrency: Source
    timeout: Source
    retry: RetrySources
    base_url: Source
    on_success: Source
    on_dead: Source
    keep_succeeded: RetentionSources
    keep_dead: RetentionSources


OVERRIDES = msgspec.json.Decoder(QueueOverrides)


class Declarer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The application that declared a queue: its owner, and the top-level modules of its tasks."""

    owner: str
    modules: tuple[str, ...] = ()


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A stored queue. If it was never configured, it may be removed when it is unused."""

    name: str
    overrides: QueueOverrides = QueueOverrides()
    declared: QueueOverrides | None = None  # last declared by code; may have been changed since
    declarer: Declarer | None = None  # None if it did not say, or nothing was declared
    configured: bool = False
    paused: bool = False


def redeclared(queue: Queue, declared: QueueOverrides, declarer: Declarer | None = None) -> Queue:
    """Return a queue with the settings that an application declares for it.

    If the declaration is the same as the last one, nothing changes: settings that an operator has
    changed since stay in force. Otherwise the code's values replace all settings that it names.
    Settings that only the last declaration named get the server's values again.
    """
    if queue.declared == declared:
        if queue.declarer == declarer:
            return queue
        return msgspec.structs.replace(queue, declarer=declarer)
    document = encode(queue.overrides)
    if queue.declared is not None:
        document = _without(document, encode(queue.declared)) or b"{}"
    overrides = decode(OVERRIDES, merged(document, encode(declared)))
    return msgspec.structs.replace(
        queue, overrides=overrides, declared=declared, declarer=declarer, configured=True
    )


def _without(json: bytes, other: bytes) -> bytes | None:
    """Return a JSON text without the members that another one has; None if nothing is left."""
    if not (is_object(json) and is_object(other)):
        return None
    left, others = document_in(json), document_in(other)
    for name in left.keys() & others.keys():
        within = _without(bytes(left[name]), bytes(others[name]))
        if within is None:
            del left[name]
        else:
            left[name] = msgspec.Raw(within)
    return msgspec.json.encode(left) if left else None


def sources_of(queue: Queue) -> Sources:
    """Return the source of each setting's value, in the shape of the settings.

    It is ``server`` for a setting that is not set, and ``code`` for one that has the value that
    code declared.
    """
    return _sources(QueueSettings(), queue.overrides, queue.declared)


def _sources(
    settings: msgspec.Struct, overrides: msgspec.Struct | None, declared: msgspec.Struct | None
) -> Sources:
    found: Sources = {}
    for name in settings.__struct_fields__:
        inner, value, said = (getattr(it, name, None) for it in (settings, overrides, declared))
        if isinstance(inner, msgspec.Struct):
            found[name] = _sources(inner, value, said)
        elif value is None:
            found[name] = "server"
        else:
            found[name] = "code" if value == said else "operator"
    return found


def total_of(counts: Iterable[QueueCounts]) -> QueueCounts:
    """Return how many tasks of some queues together are in each state."""
    sums: Counter[str] = Counter()
    for each in counts:
        sums.update(msgspec.structs.asdict(each))
    return QueueCounts(**sums)


class BucketRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a queue's token bucket that a restart must not lose: when it is full again.

    The time is kept by the machine's uptime (microseconds) in this boot, and by the wall clock.
    """

    boot_id: str
    full_at_uptime: int
    full_at: Moment


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

    @classmethod
    def filling(cls, rate: float, burst: int, *, full_in: float, now: float) -> TokenBucket:
        """Return a bucket that is full in ``full_in`` seconds, or empty if that is too long."""
        return cls(rate, burst, max(0.0, burst - max(0.0, full_in) * rate), now)

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
    def full_in(self) -> float:
        """Seconds until it is full."""
        return max(0.0, (self.burst - self.tokens) / self.rate)

    @property
    def wait(self) -> float:
        """Seconds until there is a whole token."""
        return max(0.0, (1 - self.tokens) / self.rate)


def parse_rate(text: str) -> float | None:
    """Return the attempts a second of a rate such as ``"100/h"``; None if it is not one."""
    match = _RATE.match(text)
    if match is None:
        return None
    rate = float(match[1]) / _UNITS[match[2]]
    return rate if MIN_RATE <= rate <= MAX_RATE else None
