"""Encodes requests as JSON without changing any value silently."""

from __future__ import annotations

import enum
import math
from datetime import datetime
from decimal import Decimal

import msgspec

from poussetaches.client.arguments import ArgumentError
from poussetaches.client.base_values import base_value, encode_as_base
from poussetaches.client.durations import with_seconds
from poussetaches.client.json_value import fields_of

_UNCHANGED = frozenset({str, int, bool, type(None)})  # the same in JSON


def encode_request(fields: object) -> bytes:
    """Return the fields of a request as JSON, with durations in seconds.

    Raises:
        ArgumentError: something in it has no JSON, or would be changed: a number that is not
            finite, a ``Decimal``, a set, bytes, a moment without a time zone, a key that is not a
            string. The error names its path.
    """
    try:
        _check("", fields)
        return msgspec.json.encode(with_seconds(fields), enc_hook=encode_as_base)
    except RecursionError:
        raise ArgumentError("", "the value is nested too deeply for JSON") from None
    except ArgumentError:
        raise
    except (TypeError, ValueError) as exc:
        path, reason = _first_fault("", fields) or ("", str(exc))
        raise _refusal(path, reason) from exc


def _check(path: str, value: object) -> None:
    """Check that JSON does not change a value.

    Raises:
        ArgumentError: the value, or one inside it, would be changed.
    """
    if type(value) in _UNCHANGED:
        return
    if isinstance(value, enum.Enum):
        value = value.value
    value = base_value(value)
    if reason := _reason_to_refuse(value):
        raise _refusal(path, reason)
    match value:
        case dict() as items:
            for key, item in items.items():
                if not isinstance(key, str):
                    raise _refusal(path, f"the key {key!r} is not a string, as keys in JSON are")
                _check(f"{path}.{key}", item)
        case list() | tuple() as items:
            for place, item in enumerate(items):
                _check(f"{path}[{place}]", item)
        case other:
            for name, item in (fields_of(other) or {}).items():
                _check(f"{path}.{name}", item)


def _reason_to_refuse(value: object) -> str | None:
    """Return why JSON would change a value; None if it would not."""
    match value:
        case float(number) if not math.isfinite(number):
            return f"JSON has no {number}; give a finite number or None"
        case Decimal() as number:
            return f"JSON has no {number!r}; give str(value) or float(value)"
        case set() | frozenset():
            # Their order differs between processes, and so would pushes with the same key.
            return "JSON has no sets; give a list, such as sorted(value)"
        case bytes() | bytearray() | memoryview():
            return "JSON has no bytes; give a str, or use body= for bytes"
        case datetime() as moment if moment.utcoffset() is None:
            return f"{moment} has no time zone; use an aware one, as in datetime.now(UTC)"
        case _:
            return None


def _first_fault(path: str, value: object) -> tuple[str, str] | None:
    """Return the path of the first value that cannot be encoded, and the reason."""
    match base_value(value):
        case dict() as items:
            inside = [(f"{path}.{key}", item) for key, item in items.items()]
        case list() | tuple() as items:
            inside = [(f"{path}[{place}]", item) for place, item in enumerate(items)]
        case other if (fields := fields_of(other)) is not None:
            inside = [(f"{path}.{name}", item) for name, item in fields.items()]
        case other:
            try:
                msgspec.json.encode(other, enc_hook=encode_as_base)
            except (TypeError, ValueError) as exc:
                return path, str(exc)
            return None
    return next(filter(None, (_first_fault(*each) for each in inside)), None)


def _refusal(path: str, reason: str) -> ArgumentError:
    return ArgumentError(path.removeprefix("."), reason)
