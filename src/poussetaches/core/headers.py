"""The rules for the headers of a task, and merge patches of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from poussetaches.core.errors import InvalidTask

MAX_HEADERS = 64
MAX_HEADER_BYTES = 16 * 1024  # names and values together
MASKED = "***"  # replaces secrets in answers

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_FORBIDDEN = frozenset({"host", "content-length", "connection", "transfer-encoding"})
_FORBIDDEN_PREFIXES = ("poussetaches-", "webhook-")


def check_headers(headers: Mapping[str, str]) -> None:
    """Check that headers can be sent and are not reserved for the server.

    Raises:
        InvalidTask: a header is not allowed, or they are too long together.
    """
    size = 0
    for name, value in headers.items():
        _check_name(name)
        if not _VALUE.fullmatch(value):
            raise InvalidTask(f"headers.{name}", "may contain only ASCII text and tabs")
        size += len(name) + len(value)
    if size > MAX_HEADER_BYTES:
        raise InvalidTask("headers", f"are longer than {MAX_HEADER_BYTES} bytes together")
    if len({name.lower() for name in headers}) < len(headers):
        raise InvalidTask("headers", "contain the same header twice; names are case-insensitive")


def merged_headers(
    headers: Mapping[str, str], changes: Mapping[str, str | None]
) -> dict[str, str]:
    """Return headers with a merge patch applied, in their own spelling; None removes a header.

    A masked value stands for the known one: a task as the API shows it can be sent back.

    Raises:
        InvalidTask: the result is not allowed.
    """
    merged = dict(headers)
    spellings = {name.lower(): name for name in headers}
    for name, value in changes.items():
        known = spellings.get(name.lower(), name)
        if value is None:
            merged.pop(known, None)
        elif value != MASKED or known not in headers:
            merged[known] = value
    if len(merged) > MAX_HEADERS:
        raise InvalidTask(
            "headers", f"there would be {len(merged)}; at most {MAX_HEADERS} are allowed"
        )
    check_headers(merged)
    return merged


@lru_cache(maxsize=1024)
def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidTask("headers", f"{name!r} is not a valid header name")
    lower = name.lower()
    if lower in _FORBIDDEN or lower.startswith(_FORBIDDEN_PREFIXES):
        raise InvalidTask(f"headers.{name}", "cannot be set, because the server sets it")
