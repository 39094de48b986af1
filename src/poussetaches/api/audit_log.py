"""The audit log: one log line for each request that changed something, except pushes.

It shows who paused a queue, or requeued 40,000 tasks, and when.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from poussetaches.api.request_head import RequestHead

log = logging.getLogger(__name__)


def log_change(head: RequestHead, status: int) -> None:
    """Log a request unless it was refused."""
    if status >= HTTPStatus.BAD_REQUEST:
        return
    # Without the query, which may contain personal data.
    fields = {"method": head.method, "path": head.path, "status": status}
    log.info("change made", extra={**fields, "client": head.peer or "unix socket"})
