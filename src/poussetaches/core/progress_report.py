"""``Progress``: the progress of a running attempt, as its handler reports it."""

from __future__ import annotations

import hashlib
import hmac

from poussetaches.core.json_storage import Stored
from poussetaches.core.moment import Moment

# A header of deliveries; requests that report progress must repeat it.
ATTEMPT_TOKEN = "Poussetaches-Attempt-Token"  # noqa: S105

LONGEST_NOTE = 200  # characters
LARGEST_AMOUNT = 2**53  # the largest float up to which every integer is exact

_TOKEN_SIZE = 16  # bytes


class Progress(Stored, frozen=True, kw_only=True):
    """The state that was reported at ``at``: ``done`` of ``total``, in any unit."""

    done: int | float
    total: int | float | None = None
    note: str | None = None
    at: Moment


def attempt_token(secret: bytes, request_id: str) -> str:
    """Return the token that allows a handler to report the progress of its attempt."""
    return hashlib.blake2b(request_id.encode(), key=secret, digest_size=_TOKEN_SIZE).hexdigest()


def is_token_of(token: str, secret: bytes, request_id: str) -> bool:
    """Return whether a token belongs to an attempt, in constant time."""
    return hmac.compare_digest(token.encode(), attempt_token(secret, request_id).encode())
