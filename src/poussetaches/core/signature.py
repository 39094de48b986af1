"""Signatures of deliveries: Standard Webhooks, and our own of the whole request.

A signature of Standard Webhooks (standardwebhooks.com, version 1) covers id, time and body, so it
is valid at any address. A request signature also covers the method, the path and the query. It
covers the body by a hash that the header contains, so a receiver can verify it before it reads
the body. docs/protocol.md has the format, docs/decisions/0032-request-signature.md the reasons.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from poussetaches.core.request_target import PATH_CHARACTERS

PREFIX = "whsec_"
# Signed content of Standard Webhooks begins with an id, which has no line end, so it can never
# begin with this label and a line end.
REQUEST_LABEL = "poussetaches-v1"

_BODY_HASH = re.compile("sha256,([0-9a-f]{64})")


def secret_bytes(secret: str) -> bytes:
    """Return the key that a secret stands for: base64 behind ``whsec_``, else its own bytes."""
    if secret.startswith(PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("the part after whsec_ is not base64") from None
    return secret.encode()


def sign(secrets: Sequence[bytes], *, id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``: one signature for each secret.

    ``timestamp`` is in seconds since 1970.
    """
    content = f"{id}.{timestamp}.".encode() + body
    return _signatures(secrets, content)


class SignedRequest(NamedTuple):
    """The fields that a request signature covers; path and query are those of the request line."""

    method: str
    path: str
    query: str  # without the question mark; empty when there is none
    id: str
    timestamp: int  # seconds since 1970
    body_hash: str  # SHA-256, in lower-case hex

    @property
    def content(self) -> bytes:
        """The signed bytes: a label and the fields, one per line. No field has a line end."""
        return "\n".join([REQUEST_LABEL, *map(str, self)]).encode(errors="surrogatepass")


def body_hash(body: bytes) -> str:
    """Return the hash by which a request signature covers a body."""
    return hashlib.sha256(body).hexdigest()


def sign_request(secrets: Sequence[bytes], request: SignedRequest) -> str:
    """Return the header ``Poussetaches-Signature``: the body's hash, a signature per secret."""
    return f"sha256,{request.body_hash} {_signatures(secrets, request.content)}"


def verify_request(secrets: Sequence[bytes], request: SignedRequest, *, signature: str) -> bool:
    """Return whether one of the header's signatures was made with one of the secrets.

    How old the timestamp may be is for the caller to judge.
    """
    # Callers may send bytes that are not text, and frameworks pass them on.
    items = signature.encode(errors="replace").split()
    given = [item.removeprefix(b"v1,") for item in items if item.startswith(b"v1,")]
    expected = [_signature(secret, request.content).encode() for secret in secrets]
    return any(hmac.compare_digest(a, b) for a in given for b in expected)


def signed_body_hash(signature: str) -> str | None:
    """Return the body's hash in a header ``Poussetaches-Signature``; None if it has none."""
    items = [item for item in signature.split() if item.startswith("sha256,")]
    match = _BODY_HASH.fullmatch(items[0]) if len(items) == 1 else None
    return None if match is None else match[1]


def quoted_path(path: str) -> str:
    """Return a path as the server writes it into a request line.

    Frameworks hand over the decoded path; an unusual but legal way of encoding it cannot be
    restored.
    """
    return quote(path, safe=PATH_CHARACTERS, errors="replace")


def _signatures(secrets: Sequence[bytes], content: bytes) -> str:
    return " ".join(f"v1,{_signature(secret, content)}" for secret in secrets)


def _signature(secret: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.digest(secret, content, "sha256")).decode()
