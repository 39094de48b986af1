"""JSON to send, checked for values that JSON would silently change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from decimal import Decimal

import msgspec

from poussetaches.client.arguments import ArgumentError
from poussetaches.client.date_hooks import date_to_json

# Values that are the same in JSON.
PLAIN = (str, int, type(None))


def encode_request(value: object) -> bytes:
    """Return a value as JSON.

    Raises:
        ArgumentError: something in it has no JSON, or would be changed: a number that is not
            finite, a ``Decimal``, a key that is not a string. Its path is named.
    """
    try:
        for path, reason in _changes("", value):
            raise ArgumentError(path.removeprefix("."), reason)
        return msgspec.json.encode(value, enc_hook=date_to_json)
    except RecursionError:
        raise ArgumentError("", "the value is nested too deeply for JSON") from None
    except ArgumentError:
        raise
    except (TypeError, ValueError, NotImplementedError) as exc:
        raise ArgumentError("", str(exc)) from exc


def _changes(path: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the path of each value that JSON would change, and why."""
    if isinstance(value, PLAIN):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            yield path, f"JSON has no {value}; give a finite number or None"
    elif isinstance(value, Decimal):
        yield path, f"JSON has no {value!r}; give str(value) or float(value)"
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield path, f"the key {key!r} is not a string, as keys in JSON are"
            yield from _changes(f"{path}.{key}", item)
    elif isinstance(value, list | tuple | set | frozenset):
        for place, item in enumerate(value):
            yield from _changes(f"{path}[{place}]", item)
    elif isinstance(value, msgspec.Struct) or dataclasses.is_dataclass(value):
        yield from _changes(path, msgspec.to_builtins(value, builtin_types=(Decimal,)))
