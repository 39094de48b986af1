"""Conversion of msgspec's error messages to a field's name and a reason in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from poussetaches.core.field_schemas import (
    NAME_STEP,
    allowed_at,
    fields_at,
    steps_of,
)

_PLACE = re.compile(
    r"^(?P<reason>.*?)(?: - at (?:`(?P<key>key)` in )?`\$\.?(?P<field>.*)`)?$", re.DOTALL
)
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")
_UNKNOWN = re.compile(r"contains unknown field `(?P<field>[^`]+)`")
_LENGTH = re.compile(r"Expected `(?P<type>str|array|object)` of length (?P<sign>[<>]=) (?P<n>\d+)")
_ANY_NAME = "[...]"  # stands for a name in an object whose names are free
_UNITS = {
    "str": ("character", "characters"),
    "array": ("value", "values"),
    "object": ("entry", "entries"),
}
_CLOSE = 0.75  # of 1; "stat" is close to "state", "payload" to nothing
_LONGEST_QUOTE = 60  # characters
_LARGEST_OBJECT = 100  # names; each is tried to find the wrong one
_SECRET = frozenset({"headers", "json", "text", "body_base64"})  # their values are not quoted
_TYPES: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}
_NO_VALUE = object()


def field_and_reason(message: str, kind: Any, given: bytes | bytearray = b"") -> tuple[str, str]:
    """Return the field that an error message of msgspec is about, and the reason.

    ``kind`` is the type that the value was decoded as: it knows which values are allowed.
    ``given`` is the JSON text, from which the reason quotes the refused value.
    """
    match = _PLACE.match(message)
    assert match is not None
    field = match["field"] or ""
    if found := _MISSING.search(message):
        return _joined(field, found["field"]), "is missing"
    if found := _UNKNOWN.search(message):
        return _joined(field, found["field"]), unknown_field(kind, found["field"], within=field)
    document = _decoded(given)
    steps = steps_of(field)
    if match["key"]:
        name = _wrong_name(document, steps, _same_error(message, kind))
        subject = "a name" if name is None else f"the name {name!r}"
        return field, f"{subject} must be {allowed_at(kind, [*steps, NAME_STEP])}"
    if _ANY_NAME in steps:
        name = _wrong_name(document, steps[: steps.index(_ANY_NAME)], _same_error(message, kind))
        if name is not None:
            steps[steps.index(_ANY_NAME)] = f"[{name!r}]"
            field = field.replace(_ANY_NAME, f"[{name!r}]", 1)
    return field, _reason(match["reason"], kind, steps, _value_at(document, steps))


def unknown_field(kind: Any, name: str, *, within: str = "") -> str:
    """Return the reason to refuse an unknown field, with the most likely correction."""
    steps = steps_of(within)
    known = fields_at(kind, steps)
    if close := get_close_matches(name, known, n=1, cutoff=_CLOSE):
        return f"is unknown; did you mean {close[0]}?"
    for outer in known:
        if name in fields_at(kind, [*steps, outer]):
            return f"is unknown here; it belongs in {_joined(within, outer)}"
    if steps and name in fields_at(kind, steps[:-1]):
        return f"is unknown here; it belongs outside of {within}"
    return f"is unknown; remove it, or use one of {', '.join(known)}" if known else "is unknown"


def _joined(*names: str) -> str:
    return ".".join(filter(None, names))


def _reason(reason: str, kind: Any, steps: list[str], value: object) -> str:
    if reason.endswith("got `null`") and steps and not steps[-1].startswith("["):
        return "is missing"
    if match := _LENGTH.match(reason):
        limit = "at most" if match["sign"] == "<=" else "at least"
        counted = f" (got {len(value):,})" if isinstance(value, str | list | dict) else ""
        number, unit = int(match["n"]), _UNITS[match["type"]]
        return f"must have {limit} {number:,} {unit[number != 1]}{counted}"
    if not steps and reason.startswith("Expected `object`"):
        return f"a JSON object is required{_got(value, steps)}"
    allowed = allowed_at(kind, steps)
    return f"must be {allowed}{_got(value, steps)}" if allowed else reason


def _got(value: object, steps: list[str]) -> str:
    """Return the refused value for a reason; "" if it is unknown."""
    if value is _NO_VALUE:
        return ""
    is_quoted = _SECRET.isdisjoint(steps) and not isinstance(value, dict | list)
    return f" (got {_quoted(value) if is_quoted else _TYPES.get(type(value), 'a number')})"


def _quoted(value: object) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= _LONGEST_QUOTE else f"{value[:_LONGEST_QUOTE]}…")
    return msgspec.json.encode(value).decode()


def _decoded(given: bytes | bytearray) -> object:
    try:
        return msgspec.json.decode(given)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NO_VALUE


def _value_at(value: object, steps: list[str]) -> object:
    """Return the value at a path; ``_NO_VALUE`` if the path is not exact."""
    for step in steps:
        if isinstance(value, dict):
            name = step[2:-2] if step.startswith("[") else step
            value = value.get(name, _NO_VALUE)
        elif isinstance(value, list) and step[1:-1].isdecimal() and int(step[1:-1]) < len(value):
            value = value[int(step[1:-1])]
        else:
            return _NO_VALUE
    return value


def _same_error(message: str, kind: Any) -> Callable[[object], bool]:
    def is_same(document: object) -> bool:
        try:
            msgspec.json.decode(msgspec.json.encode(document), type=kind)
        except msgspec.ValidationError as exc:
            return str(exc) == message
        return False

    return is_same


def _wrong_name(
    document: object, steps: list[str], is_same: Callable[[object], bool]
) -> str | None:
    """Return the name of the entry of an object that causes an error; None if it is unknown."""
    entries = _value_at(document, steps)
    if not isinstance(entries, dict) or len(entries) > _LARGEST_OBJECT:
        return None
    complete = dict(entries)
    try:
        for name, value in complete.items():
            entries.clear()
            entries[name] = value
            if is_same(document):
                return str(name)
    finally:
        entries.clear()
        entries.update(complete)
    return None
