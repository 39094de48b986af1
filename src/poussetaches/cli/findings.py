"""What ``poussetaches check`` finds, and in which words it says so."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from poussetaches.core.probe import DeclarationStatus

REDIRECTS = range(300, 400)

# In front of each stands the target that was probed; each ends with what to do.
FINDINGS = {
    "refused": "nothing listens there ({error}): start the application, or correct the base_url",
    "unresolved": "{error}: correct the base_url",
    "tls": "{error}: correct the certificate, or the base_url",
    "silent": "{error}: see what the application is busy with; it may have too few workers",
    "broken": "the connection ended without an answer ({error}): see the application's log",
    "not-started": "the probe was not sent, it waits ({error}): try again, or look at the queue",
    "paused": "deliveries are paused ({error}): resume them",
    "not-receiver": "answered {status}, but something else than the receiver of tasks did: mount"
    " it in front of the routes that take every path",
    "redirect": "answered {status} ({error}): a redirect to https or to a login stands in front of"
    " the receiver; mount it outside of that, or correct the base_url",
    "host": "answered 400 before the receiver saw it, as a check of the Host header does"
    " (ALLOWED_HOSTS, TrustedHostMiddleware): mount the receiver outside of that, or allow the"
    " host of the base_url",
    "no-key": "refused the probe, which had no key: give the server POUSSETACHES_AUTH_KEY, the"
    " same as the application's, and where the host is public name it by --key-target",
    "key": "refused the key: POUSSETACHES_AUTH_KEY of the server and of the application differ",
    "signature": "refused the signature, or found none: give the server and the application the"
    " same POUSSETACHES_SIGNING_SECRET; where a proxy between them removes a part of the path,"
    " name it in the application's POUSSETACHES_PUBLIC_PREFIX",
    "clock": "refused the signature as too old or too new: set the clocks of the server and of the"
    " application",
    "old-server": "refused the signature, which an older server made: upgrade the server",
    "csrf": "answered {status}, since a check against CSRF stands in front of the receiver: mount"
    " the receiver outside of it",
    "login": "answered {status}, and the receiver did not: a login, or another check, stands in"
    " front of it; mount the receiver outside of that",
    "not-mounted": "answered {status}: there is no receiver of tasks at this path; mount it, as"
    " Tasks(app) and init_app do, or give its path by --path",
    "keyless": "the application has no key, so it refuses everything: give it"
    " POUSSETACHES_AUTH_KEY, the same as the server's",
    "bad-settings": "the application's own POUSSETACHES settings are wrong: its log says which",
    "failed": "answered {status}: the application, or a proxy in front of it, failed; see its log",
    "not-declared": "tasks are delivered, but the server refused what the application declares"
    " ({error}): correct it in the code, or allow it by the server's settings",
    "undeclared": "tasks are delivered, but the application cannot declare its queues and"
    " schedules ({error}): see its log, its POUSSETACHES_URL and POUSSETACHES_API_TOKEN",
    "unknown": "answered {status}, which the receiver never does: see what stands in front of it",
}

# By the receiver's words, in the order in which they are looked for.
REFUSED_SIGNATURES = {
    "webhook-signature is not enough": "old-server",
    "s from this clock": "clock",
    "Poussetaches-Signature": "signature",
    "the signature is": "signature",
}


def finding_of(attempt: dict[str, Any]) -> str | None:
    """Return what an attempt at the probe shows: a name in the table, None when all is well."""
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
    """Tell the receiver's own refusals from those in front of it."""
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
