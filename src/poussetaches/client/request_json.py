"""Encodes requests as JSON without changing any value silently."""

from __future__ import annotations

import enum
import math
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
            finite, a ``Decimal``, a key that is not a string. The error names its path.
    """
    try:
        _check("", fields)
        return msgspec.json.encode(with_seconds(fields), enc_hook=encode_as_base)
    except RecursionError:
        raise ArgumentError("", "the value is nested too deeply for JSON") from None
    except ArgumentError:
        raise
    except (TypeError, ValueError) as exc:
        raise ArgumentError("", str(exc)) from exc


def _check(path: str, value: object) -> None:
    """Check that JSON does not change a value.

    Raises:
        ArgumentError: the value, or one inside it, would be changed.
    """
    if type(value) in _UNCHANGED:
        return
    if isinstance(value, enum.Enum):
        value = value.value
    match base_value(value):
        case float(number) if not math.isfinite(number):
            raise _refusal(path, f"JSON has no {number}; give a finite number or None")
        case Decimal() as number:
            raise _refusal(path, f"JSON has no {number!r}; give str(value) or float(value)")
        case dict() as items:
            for key, item in items.items():
                if not isinstance(key, str):
                    raise _refusal(path, f"the key {key!r} is not a string, as keys in JSON are")
                _check(f"{path}.{key}", item)
        case list() | tuple() | set() | frozenset() as items:
            for place, item in enumerate(items):
                _check(f"{path}[{place}]", item)
        case other:
            for name, item in (fields_of(other) or {}).items():
                _check(f"{path}.{name}", item)


def _refusal(path: str, reason: str) -> ArgumentError:
    return ArgumentError(path.removeprefix("."), reason)
