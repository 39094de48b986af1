"""Reports unusable certificate authorities before the first https delivery fails."""

from __future__ import annotations

import logging
import os

from poussetaches.engine.sender import HttpSender
from poussetaches.http_client.tls import FILE, file_problem

log = logging.getLogger(__name__)


def report_trust(sender: HttpSender) -> None:
    """Log why https targets cannot be verified; deliveries over http are not affected."""
    path = os.environ.get(FILE)
    problem = None if path is None else file_problem(path)
    if problem is not None:
        log.warning(f"{FILE} cannot be used", extra={"path": path, "error": problem})
    problem = sender.trust_problem()
    if problem is not None:
        log.warning("https targets cannot be reached", extra={"error": problem})
