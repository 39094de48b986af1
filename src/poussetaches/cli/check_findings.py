"""The problems that ``poussetaches check`` can find, and how it recognises them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

from poussetaches.core.cause import Cause
from poussetaches.core.delivery_refusal import RefusalCode, refusal_in
from poussetaches.core.probe import DeclarationStatus, probe_answer_in

if TYPE_CHECKING:
    from poussetaches.client.results import AttemptInfo

REDIRECTS = range(300, 400)


class Finding(StrEnum):
    """A problem, as the part of a message that follows the URL of the probe."""

    NOT_CONNECTED = "{error}: start the application, or correct the base_url"
    UNKNOWN_HOST = "{error}: correct the base_url"
    TLS_FAILED = "{error}: correct the certificate, or the base_url"
    TIMEOUT = (
        "{error}: the application is too slow or too busy; check its log and its number of workers"
    )
    CONNECTION_LOST = (
        "the connection ended without a response ({error}): check the application's log"
    )
    NOT_STARTED = "the probe is still waiting ({error}): try again, or check the queue"
    PAUSED = "deliveries are paused ({error}): resume them"
    OTHER_HANDLER = (
        "returned {status}, but not from the task receiver: mount the receiver before catch-all"
        " routes"
    )
    REDIRECT = (
        "returned {status} ({error}): requests are redirected, to https or a login page, before"
        " they reach the task receiver; exempt its path, or correct the base_url"
    )
    HOST_CHECK = (
        "returned 400, but not from the task receiver, probably from a check of the Host header"
        " (ALLOWED_HOSTS, TrustedHostMiddleware): exempt the receiver's path, or allow the host of"
        " the base_url"
    )
    NO_KEY = (
        "refused the probe because the server sent no key: set the server's POUSSETACHES_AUTH_KEY"
        " to the application's; if the host is public, allow it with --key-target"
    )
    WRONG_KEY = (
        "refused the key: the server and the application have different values of"
        " POUSSETACHES_AUTH_KEY; set the same value"
    )
    WRONG_SIGNATURE = (
        "refused the signature, or found none: set the same POUSSETACHES_SIGNING_SECRET for the"
        " server and the application; if a proxy between them removes a prefix of the path, set"
        " the application's POUSSETACHES_PUBLIC_PREFIX to it"
    )
    WRONG_TIME = (
        "refused the signature as too old or too new: synchronize the clocks of the server and the"
        " application"
    )
    OLD_SERVER = "refused the signature because the server is too old: upgrade the server"
    LOGIN = (
        "returned {status}, but not from the task receiver, probably from a login or a CSRF check:"
        " exempt the receiver's path from it"
    )
    NOT_MOUNTED = (
        "returned {status}: there is no task receiver at this path; mount it with Tasks(app) or"
        " init_app, or give its path with --path"
    )
    NO_KEY_CONFIGURED = (
        "the application has no key, so it refuses all deliveries: set its POUSSETACHES_AUTH_KEY"
        " to the server's"
    )
    INVALID_SETTINGS = (
        "the application's POUSSETACHES_ settings are invalid: check the application's log"
    )
    FAILED = "returned {status}: the application, or a proxy in front of it, failed; check its log"
    UNKNOWN_STATUS = (
        "returned {status}, which the task receiver never does: check the proxies and middleware"
        " in front of it"
    )
    DECLARATION_REFUSED = (
        "tasks are delivered, but the server refused some of the application's queues and"
        " schedules ({error}): correct them in the code, or allow them in the server's settings"
    )
    NOT_DECLARED = (
        "tasks are delivered, but the application cannot declare its queues and schedules"
        " ({error}): check its log, POUSSETACHES_URL and POUSSETACHES_API_TOKEN"
    )


CAUSES: Mapping[str, Finding] = {
    Cause.UNKNOWN_HOST: Finding.UNKNOWN_HOST,
    Cause.LOOKUP_FAILED: Finding.UNKNOWN_HOST,
    Cause.NOT_CONNECTED: Finding.NOT_CONNECTED,
    Cause.ORIGIN_HELD: Finding.NOT_CONNECTED,
    Cause.TLS_FAILED: Finding.TLS_FAILED,
    Cause.TIMEOUT: Finding.TIMEOUT,
}
REFUSALS = {
    RefusalCode.INVALID_SETTINGS: Finding.INVALID_SETTINGS,
    RefusalCode.NO_KEY_CONFIGURED: Finding.NO_KEY_CONFIGURED,
    RefusalCode.WRONG_KEY: Finding.WRONG_KEY,
    RefusalCode.WRONG_SIGNATURE: Finding.WRONG_SIGNATURE,
    RefusalCode.WRONG_TIME: Finding.WRONG_TIME,
    RefusalCode.OLD_SERVER: Finding.OLD_SERVER,
}
STATUSES = {
    HTTPStatus.BAD_REQUEST: Finding.HOST_CHECK,
    HTTPStatus.UNAUTHORIZED: Finding.LOGIN,
    HTTPStatus.FORBIDDEN: Finding.LOGIN,
    HTTPStatus.NOT_FOUND: Finding.NOT_MOUNTED,
    HTTPStatus.METHOD_NOT_ALLOWED: Finding.NOT_MOUNTED,
}


def attempt_finding(attempt: AttemptInfo) -> Finding | None:
    """Return the problem of a probe's attempt; None if the receiver accepted it."""
    status = attempt.status
    if status is None or attempt.cause is not None:
        return CAUSES.get(attempt.cause or "", Finding.CONNECTION_LOST)
    if status == HTTPStatus.OK and probe_answer_in(attempt.response_body) is not None:
        return None
    code = refusal_in(attempt.response_body)
    if code is RefusalCode.WRONG_KEY and attempt.auth_key != "sent":
        return Finding.NO_KEY
    return _status_finding(status) if code is None else REFUSALS[code]


def declaration_finding(status: DeclarationStatus) -> Finding | None:
    """Return the problem of the application's queues and schedules; None if all are declared."""
    if status.refused:
        return Finding.DECLARATION_REFUSED
    return Finding.NOT_DECLARED if status.state in ("pending", "failing") else None


def _status_finding(status: int) -> Finding:
    if status in STATUSES:
        return STATUSES[HTTPStatus(status)]
    if status in REDIRECTS:
        return Finding.REDIRECT
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return Finding.OTHER_HANDLER
    is_failure = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return Finding.FAILED if is_failure else Finding.UNKNOWN_STATUS
