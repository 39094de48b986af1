"""Ids of new tasks and attempts."""

from __future__ import annotations

from random import Random

from poussetaches.core.moment import Moment


def new_task_id(now: Moment, random: Random) -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7) as 32 hex digits.

    It begins with the time in milliseconds, so that new rows are appended to an index.
    """
    milliseconds = now // 1000
    version_and_rest = 0x7000 | random.getrandbits(12)
    variant_and_rest = 1 << 63 | random.getrandbits(62)
    return f"{milliseconds:012x}{version_and_rest:04x}{variant_and_rest:016x}"


def new_request_id(random: Random) -> str:
    """Return a new id of an attempt: 12 hex digits."""
    return f"{random.getrandbits(48):012x}"
