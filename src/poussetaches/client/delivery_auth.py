"""Authentication of deliveries by their headers, before the body is read."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import NamedTuple

from poussetaches.client.environment import AUTH_KEY, PUBLIC_PREFIX, SIGNING_SECRET, Keys
from poussetaches.core.delivery_refusal import RefusalCode, refusal_line
from poussetaches.core.errors import SettingsError
from poussetaches.core.signature import (
    SignedRequest,
    quoted_path,
    signed_body_hash,
    verify_request,
)

TOLERANCE = 300  # seconds that a signature's timestamp may differ from the clock
MAX_BODY = 64 * 1024 * 1024  # bytes of a delivery; the server's own limit is 1 MiB by default
# The body of a refused request is read up to this limit and dropped: a caller that is still
# sending does not read the response, and a server with a wrong key must get its 401.
MAX_REFUSED_BODY = 2 * 1024 * 1024  # bytes
PIECE = 64 * 1024  # bytes of a body per read
MAX_PATH_LENGTH = 200  # characters, in responses and in the log

_TIMESTAMP = re.compile("[0-9]{1,15}")
_SIGNED_ID = re.compile("[!-~]{1,200}")

NO_KEY = (
    f"the header Poussetaches-Auth-Key is missing: set {AUTH_KEY} of the server to the"
    " application's, and if the application's host is public, the server's --key-target to it"
)
OTHER_KEY = (
    "the header Poussetaches-Auth-Key is wrong: the server and the application have different"
    f" values of {AUTH_KEY}; set the same one"
)
UNSIGNED = f"the header Poussetaches-Signature is missing; set {SIGNING_SECRET} on the server"
OLD_SERVER = (
    "the header Poussetaches-Signature is missing, and webhook-signature is not enough: upgrade"
    " the server, which is older than this package, or name this host in its key_target"
)
MALFORMED = "webhook-id, webhook-timestamp or Poussetaches-Signature is missing or malformed"
OTHER_ID = "the signature is for a different task than Poussetaches-Task-ID"
OTHER_TIME = (
    f"the signature's timestamp is {{seconds:.0f}} s from this clock, more than the"
    f" {TOLERANCE} s that are allowed: synchronize the clocks"
)
WRONG_SIGNATURE = (
    "the signature is wrong: the signing secrets differ, or a proxy changed the path or the query"
    f" of {{path!r}} (set {PUBLIC_PREFIX} to the prefix that it removes)"
)
OTHER_BODY = "the signature is not valid for this body"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IncomingRequest:
    """A request as it arrived, with the percent-decoded path that the application sees.

    ``query`` is as it was sent. ``mount`` is where the application is mounted (SCRIPT_NAME or the
    root path); ``path`` does not include it.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    query: str = ""
    mount: str = ""

    @property
    def target(self) -> str:
        """Path and query, as in a URL."""
        return quoted_path(self.path) + (f"?{self.query}" if self.query else "")

    def header(self, name: str) -> str | None:
        """Return a header's value; the case of its name does not matter."""
        return next((v for k, v in self.headers.items() if k.lower() == name.lower()), None)


@dataclass(frozen=True)
class Reply:
    """A response; its headers include Content-Type, but not Content-Length."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def text_reply(status: HTTPStatus, line: str, code: RefusalCode | None = None) -> Reply:
    """Return a response of one line of text, with a second one for a code."""
    # Text, not JSON: the server groups failures by the first line of the response.
    lines = [line] if code is None else [line, refusal_line(code)]
    body = "".join(f"{each}\n" for each in lines).encode("utf-8", "replace")
    return Reply(status, body, {"Content-Type": "text/plain; charset=utf-8"})


def admit(
    head: IncomingRequest, *, keys: Callable[[], Keys], clock: Callable[[], float]
) -> Intake:
    """Check the head of a request; return the intake for its body.

    ``keys`` may raise SettingsError: a setting is invalid.
    """
    try:
        asked = keys()
    except SettingsError as exc:
        log.error("delivery refused: %s", exc)
        line = "the application's POUSSETACHES_ settings are invalid"
        return Intake(head, refusal=_unavailable(line, RefusalCode.INVALID_SETTINGS))
    if not asked.auth_key and not asked.signing_secrets:
        log.error(
            "delivery refused: no key is configured; set %s to the auth_key of the server,"
            " or %s to its signing_secret",
            AUTH_KEY,
            SIGNING_SECRET,
        )
        line = "the application has no key configured"
        return Intake(head, refusal=_unavailable(line, RefusalCode.NO_KEY_CONFIGURED))
    now = (asked.clock or clock)()
    fault = _fault_of(head, asked, now)
    if fault is not None:
        return Intake(head, refusal=_unauthorized(fault))
    is_signed = bool(asked.signing_secrets)
    return Intake(head, body_hash=signed_body_hash(_signature_of(head)) if is_signed else None)


class Intake:
    """Reads a request's body in pieces.

    Only the bodies of admitted requests are kept. With a ``body_hash``, the body must match it.
    """

    def __init__(
        self, head: IncomingRequest, *, refusal: Reply | None = None, body_hash: str | None = None
    ) -> None:
        self._head = head
        self._refusal = refusal
        self._body_hash = body_hash
        self._hash = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._left = MAX_BODY if refusal is None else MAX_REFUSED_BODY

    def feed(self, piece: bytes) -> bool:
        """Add the next piece of the body; return whether to read another one."""
        self._left -= len(piece)
        if self._left < 0 and self._refusal is None:
            self._pieces.clear()
            self._refusal = text_reply(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {MAX_BODY} bytes"
            )
        if self._refusal is None:
            self._pieces.append(piece)
            if self._body_hash is not None:
                self._hash.update(piece)
        return self._left >= 0

    def end(self) -> IncomingRequest | Reply:
        """Return the request with its body, or the response that refuses it."""
        if self._refusal is not None:
            return self._refusal
        if self._body_hash is not None:
            found = self._hash.hexdigest()
            if not hmac.compare_digest(found, self._body_hash):
                return _unauthorized(_Fault(OTHER_BODY))
        return replace(self._head, body=b"".join(self._pieces))


class _Fault(NamedTuple):
    """Why a request is not authenticated."""

    reason: str
    code: RefusalCode = RefusalCode.WRONG_SIGNATURE


def _fault_of(head: IncomingRequest, keys: Keys, now: float) -> _Fault | None:
    if keys.auth_key and not _has_key(head, keys.auth_key):
        is_missing = not head.header("poussetaches-auth-key")
        return _Fault(NO_KEY if is_missing else OTHER_KEY, RefusalCode.WRONG_KEY)
    if keys.signing_secrets:
        return _fault_of_signature(head, keys, now)
    return None


def _fault_of_signature(head: IncomingRequest, keys: Keys, now: float) -> _Fault | None:
    """Return what is wrong with a request's signature; None if it is valid."""
    signature = _signature_of(head)
    if not signature:
        is_old = head.header("webhook-signature") is not None
        return _Fault(OLD_SERVER, RefusalCode.OLD_SERVER) if is_old else _Fault(UNSIGNED)
    id, stamp = head.header("webhook-id") or "", head.header("webhook-timestamp") or ""
    body_hash = signed_body_hash(signature)
    if body_hash is None or not _SIGNED_ID.fullmatch(id) or not _TIMESTAMP.fullmatch(stamp):
        return _Fault(MALFORMED)
    if head.header("poussetaches-task-id") not in (None, id):
        return _Fault(OTHER_ID)
    distance = abs(now - int(stamp))
    if distance > TOLERANCE:
        return _Fault(OTHER_TIME.format(seconds=distance), RefusalCode.WRONG_TIME)
    path = quoted_path(head.path)
    signed = SignedRequest(head.method, path, head.query, id, int(stamp), body_hash)
    # A proxy or a mount may have removed a prefix of the signed path.
    for prefix in {"", quoted_path(head.mount), quoted_path(keys.public_prefix)}:
        request = signed._replace(path=prefix + path)
        if verify_request(keys.signing_secrets, request, signature=signature):
            return None
    return _Fault(WRONG_SIGNATURE.format(path=head.path[:MAX_PATH_LENGTH]))


def _has_key(request: IncomingRequest, key: str) -> bool:
    given = request.header("poussetaches-auth-key") or ""
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode("utf-8", "replace"))


def _signature_of(request: IncomingRequest) -> str:
    return request.header("poussetaches-signature") or ""


def _unauthorized(fault: _Fault) -> Reply:
    log.warning("delivery refused: %s", fault.reason)
    return text_reply(HTTPStatus.UNAUTHORIZED, fault.reason, fault.code)


def _unavailable(line: str, code: RefusalCode) -> Reply:
    return text_reply(HTTPStatus.SERVICE_UNAVAILABLE, line, code)
