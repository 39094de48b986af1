"""The journal: a line in the log for each request, except pushes, that changed something.

What somebody did by hand (a pause, 40,000 tasks sent again) can so be found later.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from poussetaches.api.request_head import RequestHead

log = logging.getLogger(__name__)


def log_change(head: RequestHead, status: int) -> None:
    """Note a request that was carried out."""
    if status >= HTTPStatus.BAD_REQUEST:
        return
    # Without the query: it may hold what is nobody's business.
    fields = {"method": head.method, "path": head.path, "status": status}
    log.info("change made", extra={**fields, "client": head.peer or "unix socket"})
