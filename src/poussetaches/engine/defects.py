"""``Defects``: unexpected exceptions, logged and counted."""

from __future__ import annotations

import asyncio
import logging

from poussetaches.core.defect import describe_defect, stack_of

log = logging.getLogger(__name__)


class Defects:
    """Logs and counts defects, without the text of the exceptions: it may contain secrets."""

    def __init__(self) -> None:
        self.count = 0

    def count_logged(self) -> None:
        """Count a defect that the caller logs."""
        self.count += 1

    def note(self, event: str, exc: BaseException, **fields: object) -> str:
        """Log and count a defect; return its description."""
        self.count += 1
        error = describe_defect(exc)
        log.error(event, extra={**fields, "error": error, "stack": stack_of(exc)})
        return error


def raise_end(exc: BaseException) -> None:
    """Raise an exception again that ends the task from outside; all others are defects."""
    if isinstance(exc, asyncio.CancelledError):
        # The awaited task may have been cancelled, without a request to cancel this one.
        own = asyncio.current_task()
        if own is None or own.cancelling():
            raise exc
    # A panic of a library written in Rust is neither an Exception nor any of these.
    if isinstance(exc, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise exc
