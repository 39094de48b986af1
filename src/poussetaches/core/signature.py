"""Signatures of deliveries, as Standard Webhooks has them (standardwebhooks.com, version 1)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"


def secret_bytes(secret: str) -> bytes:
    """Return the key that a secret stands for: base64 behind ``whsec_``, else its own bytes."""
    if secret.startswith(PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("what follows whsec_ is not base64") from None
    return secret.encode()


def sign(secrets: Sequence[bytes], *, id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``: one signature for each secret.

    ``timestamp`` is in seconds since 1970.
    """
    content = f"{id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_signature(secret, content)}" for secret in secrets)


def verify(
    secrets: Sequence[bytes], *, id: str, timestamp: int, body: bytes, signature: str
) -> bool:
    """Tell whether one of a header's signatures was made with one of the secrets.

    How old the timestamp may be is for the caller to judge.
    """
    # Whoever calls us may have sent bytes that are no text, and frameworks pass them on.
    content = f"{id}.{timestamp}.".encode(errors="replace") + body
    items = signature.encode(errors="replace").split()
    given = [item.removeprefix(b"v1,") for item in items if item.startswith(b"v1,")]
    expected = [_signature(secret, content).encode() for secret in secrets]
    return any(hmac.compare_digest(a, b) for a in given for b in expected)


def _signature(secret: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.digest(secret, content, "sha256")).decode()
