"""``Defects``: exceptions that nobody expected, kept from ending more than they have to."""

from __future__ import annotations

import logging

from poussetaches.core.defect import describe_defect, stack_of

log = logging.getLogger(__name__)


class Defects:
    """Counts and logs defects, without the text of the exceptions: it may hold secrets."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, event: str, exc: BaseException, **fields: object) -> str:
        """Log and count a defect; return it in words."""
        self.count += 1
        error = describe_defect(exc)
        log.error(event, extra={**fields, "error": error, "stack": stack_of(exc)})
        return error
