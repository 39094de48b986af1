"""The settings of queues as requests give them, and the rules for them.

The API checks requests with them, the client the declarations of code. What they become is
stored, and read again without these limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from poussetaches.core.callback import CallbackUrl, check_callback
from poussetaches.core.errors import InvalidQueue, InvalidTask
from poussetaches.core.queue import (
    MAX_RATE,
    MIN_RATE,
    RATE,
    QueueOverrides,
    RetentionOverrides,
    parse_rate,
)
from poussetaches.core.retry import RetryFields, Wait, check_retry
from poussetaches.core.target import MAX_URL, check_base_url

Rate = Annotated[float, Meta(ge=MIN_RATE, le=MAX_RATE)]  # attempts a second
Burst = Annotated[int, Meta(ge=1, le=1_000_000)]
Slots = Annotated[int, Meta(ge=1, le=10_000)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Timeout = Annotated[float, Meta(ge=0.1, le=86_400)]  # seconds
RateText = Annotated[
    str,
    Meta(
        pattern=RATE,
        description='a text like "2/s", "30/min" or "100/h"',
        examples=["30/min"],
    ),
]
# A valid value of each setting, for error messages.
EXAMPLES: Mapping[str, object] = {
    "rate": "2/s",
    "burst": 5,
    "concurrency": 4,
    "origin_concurrency": 2,
    "timeout": 600,
    "retry": {"max_attempts": 5, "dead_on": [404]},
    "base_url": "http://127.0.0.1:5000",
    "on_success": "/done",
    "on_dead": "/failed",
    "keep_succeeded": {"count": 10_000, "age": 86_400},
    "keep_dead": {"count": 100_000, "age": 7_776_000},
}

BaseUrl = Annotated[str, Meta(max_length=MAX_URL, examples=["http://127.0.0.1:5000"])]


class RetentionFields(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A queue's own limits of a retention. Null means the server's value."""

    count: Count | None = None
    age: Wait | None = None

    def overrides(self) -> RetentionOverrides:
        """Return the fields as they are stored."""
        return RetentionOverrides(**msgspec.structs.asdict(self))


class QueueFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a queue. A field that is null or missing has the server's value."""

    rate: Rate | RateText | None = None
    burst: Burst | None = None
    concurrency: Slots | None = None
    origin_concurrency: Slots | None = None
    timeout: Timeout | None = None
    retry: RetryFields | None = None
    base_url: BaseUrl | None = None
    on_success: CallbackUrl | None = None
    on_dead: CallbackUrl | None = None
    keep_succeeded: RetentionFields | None = None
    keep_dead: RetentionFields | None = None

    def overrides(self) -> QueueOverrides:
        """Return the settings as they are stored.

        Raises:
            InvalidQueue: the rate is out of range.
        """
        rate = self.rate
        if isinstance(rate, str):
            rate = parse_rate(rate)
            if rate is None:
                raise InvalidQueue("rate", "must be from 0.000001 to 1,000,000 a second")
        fields = msgspec.structs.asdict(self)
        for name in ("retry", "keep_succeeded", "keep_dead"):
            if fields[name] is not None:
                fields[name] = fields[name].overrides()
        return QueueOverrides(**{**fields, "rate": rate})


def check_queue(overrides: QueueOverrides) -> None:
    """Check the rules that hold for settings of queues on every server.

    Raises:
        InvalidQueue: two settings contradict each other, or a URL cannot be sent to.
    """
    try:
        if overrides.retry is not None:
            check_retry(overrides.retry)
        if overrides.base_url is not None:
            check_base_url(overrides.base_url)
        for field, url in (("on_success", overrides.on_success), ("on_dead", overrides.on_dead)):
            if url is not None:
                check_callback(field, url)
    except InvalidTask as exc:
        field = "base_url" if exc.field == "url" else exc.field
        raise InvalidQueue(field, exc.reason) from None
