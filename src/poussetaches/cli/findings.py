"""The findings of ``poussetaches check`` and their messages."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from poussetaches.core.probe_answer import DeclarationStatus

REDIRECTS = range(300, 400)

# Each follows the probed target, and ends with what to do.
FINDINGS = {
    "refused": "nothing listens there ({error}): start the application, or correct the base_url",
    "unresolved": "{error}: correct the base_url",
    "tls": "{error}: correct the certificate, or the base_url",
    "silent": "{error}: check what the application is busy with; it may have too few workers",
    "broken": "the connection ended without an answer ({error}): see the application's log",
    "not-started": "the probe is still waiting ({error}): try again, or check the queue",
    "paused": "deliveries are paused ({error}): resume them",
    "not-receiver": "answered {status}, but not from the task receiver: mount the receiver before"
    " catch-all routes",
    "redirect": "answered {status} ({error}): requests are redirected, to https or a login page,"
    " before they reach the task receiver; exempt its path, or correct the base_url",
    "host": "answered 400, but not from the task receiver, probably from a check of the Host"
    " header (ALLOWED_HOSTS, TrustedHostMiddleware): exempt the receiver's path, or allow the host"
    " of the base_url",
    "no-key": "refused the probe because it had no key: set the server's POUSSETACHES_AUTH_KEY to"
    " the application's, and if the host is public, allow it with --key-target",
    "key": "refused the key: the server and the application have different values of"
    " POUSSETACHES_AUTH_KEY; set the same",
    "signature": "refused the signature, or found none: set the same POUSSETACHES_SIGNING_SECRET"
    " for the server and the application; if a proxy between them strips a prefix of the path, set"
    " the application's POUSSETACHES_PUBLIC_PREFIX to it",
    "clock": "refused the signature as too old or too new: synchronize the clocks of the server"
    " and the application",
    "old-server": "refused the signature because the server is too old: upgrade the server",
    "csrf": "answered {status} from a CSRF check: exempt the task receiver's path from it",
    "login": "answered {status}, but not from the task receiver, probably from a login or another"
    " check: exempt the receiver's path from it",
    "not-mounted": "answered {status}: there is no task receiver at this path; mount it with"
    " Tasks(app) or init_app, or give its path with --path",
    "keyless": "the application has no key, so it refuses everything: set its"
    " POUSSETACHES_AUTH_KEY to the server's",
    "bad-settings": "the application's POUSSETACHES_ settings are invalid: see its log",
    "failed": "answered {status}: the application, or a proxy in front of it, failed; see its log",
    "not-declared": "tasks are delivered, but the server refused some of the application's queues"
    " and schedules ({error}): correct them in the code, or allow them in the server's settings",
    "undeclared": "tasks are delivered, but the application cannot declare its queues and"
    " schedules ({error}): check its log, POUSSETACHES_URL and POUSSETACHES_API_TOKEN",
    "unknown": "answered {status}, which the task receiver never does: check the proxies and"
    " middleware in front of it",
}

# By phrases of the receiver's errors; the first match wins.
REFUSED_SIGNATURES = {
    "webhook-signature is not enough": "old-server",
    "s from this clock": "clock",
    "Poussetaches-Signature": "signature",
    "the signature is": "signature",
}


def finding_of(attempt: dict[str, Any]) -> str | None:
    """Return the finding of a probe's attempt, None if all is well."""
    status, error = attempt["status"], attempt["error"]
    body: str = attempt["response_body"] or ""
    if status is None or (error and status not in REDIRECTS):
        return finding_of_error(error or "")
    if status == HTTPStatus.OK and '"poussetaches"' in body:
        return None
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return finding_of_refusal(body, has_key=attempt["auth_key"] == "sent")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        if "no key configured" in body:
            return "keyless"
        return "bad-settings" if "settings are wrong" in body else "failed"
    return finding_of_status(status)


def finding_of_declaration(status: DeclarationStatus) -> str | None:
    """Return what is wrong with the application's queues and schedules, None if nothing is."""
    if status.refused:
        return "not-declared"
    return "undeclared" if status.state in ("pending", "failing") else None


def finding_of_error(error: str) -> str:
    if "cannot be resolved" in error:
        return "unresolved"
    if "secure connection" in error or "TLS" in error:
        return "tls"
    return "silent" if error.startswith("no answer within") else "broken"


def finding_of_refusal(body: str, *, has_key: bool) -> str:
    """Return the finding of a 401 or 403, of the receiver or of something in front of it."""
    if "Poussetaches-Auth-Key" in body:
        return "key" if has_key else "no-key"
    for words, name in REFUSED_SIGNATURES.items():
        if words in body:
            return name
    return "csrf" if "csrf" in body.lower() else "login"


def finding_of_status(status: int) -> str:
    if status in REDIRECTS:
        return "redirect"
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return "not-mounted"
    if status == HTTPStatus.BAD_REQUEST:
        return "host"
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return "not-receiver"
    return "failed" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "unknown"
