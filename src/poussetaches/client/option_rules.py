"""The server's rules for task options. Imported on first use, because it is slow."""

from __future__ import annotations

from collections.abc import Mapping

from poussetaches.core import queue_fields, task_fields
from poussetaches.core.callback import check_callback
from poussetaches.core.errors import InvalidTask
from poussetaches.core.retry import Attempts, check_retry
from poussetaches.core.task_fields import TaskFields, Url, check_combination

EXAMPLES: Mapping[str, object] = {**queue_fields.EXAMPLES, **task_fields.EXAMPLES}


class OptionFields(TaskFields, frozen=True, kw_only=True, gc=False):
    """The options of a task or a push, as the server reads them."""

    url: Url = ""
    max_attempts: Attempts | None = None


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
