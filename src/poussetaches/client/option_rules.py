"""The server's rules for task options. Imported on first use, because it is slow."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from poussetaches.core import queue_fields, task_fields
from poussetaches.core.callback import CallbackUrl, check_callback
from poussetaches.core.errors import InvalidTask
from poussetaches.core.queue import Name
from poussetaches.core.queue_fields import Timeout
from poussetaches.core.retry import Attempts, RetryFields, check_retry
from poussetaches.core.task_fields import (
    Delay,
    Key,
    Labels,
    OnConflict,
    Priority,
    Time,
    check_combination,
)

EXAMPLES: Mapping[str, object] = {**queue_fields.EXAMPLES, **task_fields.EXAMPLES}


class OptionFields(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a task or a push, as the server reads them."""

    queue: Name | None = None
    delay: Delay | None = None
    run_at: Time | None = None
    priority: Priority | None = None
    timeout: Timeout | None = None
    max_attempts: Attempts | None = None
    retry: RetryFields | None = None
    key: Key | None = None
    unique: Key | None = None
    on_conflict: OnConflict | None = None
    expires_at: Time | None = None
    on_success: CallbackUrl | None = None
    on_dead: CallbackUrl | None = None
    labels: Labels | None = None


def check_option_fields(fields: OptionFields) -> None:
    """Check that options do not contradict each other, and that callbacks have a URL.

    Raises:
        InvalidTask: two options contradict each other, or a URL is invalid.
    """
    try:
        check_combination(
            delay=fields.delay,
            run_at=fields.run_at,
            unique=fields.unique,
            on_conflict=fields.on_conflict,
        )
    except InvalidTask as exc:  # each value alone is valid
        raise InvalidTask("", str(exc)) from None
    if fields.retry is not None:
        check_retry(fields.retry)
        if fields.max_attempts is not None and fields.retry.max_attempts is not None:
            raise InvalidTask("", "max_attempts is set twice, also in retry; remove one of them")
    for field, url in (("on_success", fields.on_success), ("on_dead", fields.on_dead)):
        if url is not None:
            check_callback(field, url)
