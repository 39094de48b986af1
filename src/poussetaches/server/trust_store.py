"""Reports unusable certificate authorities before the first https delivery fails."""

from __future__ import annotations

import logging
import os
import ssl

from poussetaches.engine.sender import HttpSender

SETTING = "SSL_CERT_FILE"

log = logging.getLogger(__name__)


def report_trust(sender: HttpSender) -> None:
    """Log why https targets cannot be verified; deliveries over http are not affected."""
    path = os.environ.get(SETTING)
    problem = None if path is None else _problem_of(path)
    if problem is not None:
        log.warning(f"{SETTING} cannot be used", extra={"path": path, "error": problem})
    problem = sender.trust_problem()
    if problem is not None:
        log.warning("https targets cannot be reached", extra={"error": problem})


def _problem_of(path: str) -> str | None:
    """Return why a file of certificates cannot be used; None when it can be."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError:
        return "it contains no PEM certificate"
    except OSError as exc:
        return exc.strerror or str(exc)
    return None
