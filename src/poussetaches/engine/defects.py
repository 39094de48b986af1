"""``Defects``: unexpected exceptions, logged and counted."""

from __future__ import annotations

import logging

from poussetaches.core.defect import describe_defect, stack_of

log = logging.getLogger(__name__)


class Defects:
    """Logs and counts defects, without the text of the exceptions: it may contain secrets."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, event: str, exc: BaseException, **fields: object) -> str:
        """Log and count a defect; return its description."""
        self.count += 1
        error = describe_defect(exc)
        log.error(event, extra={**fields, "error": error, "stack": stack_of(exc)})
        return error
