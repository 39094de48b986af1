"""Conversion of msgspec's error messages to a field's name and a plain reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

_PLACE = re.compile(
    r"^(?P<reason>.*?)(?: - at (?:`(?P<key>key)` in )?`\$\.?(?P<field>.*)`)?$", re.DOTALL
)
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")
_UNKNOWN = re.compile(r"contains unknown field `(?P<field>[^`]+)`")
_STEP = re.compile(r"\[[^]]*\]|[^.\[]+")  # of the path to a field: a[0].b, labels[...]
_NAME = "[name]"  # a step to the names of an object instead of their values
_REFERENCE = "#{name}"
OF_A_NAME = "a name in it: "  # begins the reason if a name in an object is wrong, not its value


def field_and_reason(message: str, kind: Any) -> tuple[str, str]:
    """Return the field that an error message of msgspec is about, and the reason.

    ``kind`` is the type that the value was decoded as: it knows which values are allowed.
    """
    match = _PLACE.match(message)
    assert match is not None
    field = match["field"] or ""
    for pattern, reason in ((_MISSING, "is missing"), (_UNKNOWN, "is not known here")):
        if found := pattern.search(message):
            return ".".join(filter(None, [field, found["field"]])), reason
    steps = _STEP.findall(field)
    if match["key"]:
        return field, OF_A_NAME + _in_words(match["reason"], kind, [*steps, _NAME])
    return field, _in_words(match["reason"], kind, steps)


def allowed_values(kind: Any, field: str) -> str:
    """Return the allowed values of a field in words; "" if the type has no such field."""
    return _allowed_at(kind, _STEP.findall(field))


def _allowed_at(kind: Any, steps: list[str]) -> str:
    # Each alternative of a union in its own words: a description is of one alternative alone.
    found = dict.fromkeys(map(_words_of, _schemas_at(kind, steps)))
    return ", or ".join(filter(None, found))


def _words_of(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(map(repr, schema['enum']))}"
    if "pattern" in schema:
        return str(schema["description"])
    if schema.get("format") == "date-time":
        return "a date and time with a time zone"
    if "minimum" in schema and "maximum" in schema:
        number = "a whole number" if schema["type"] == "integer" else "a number"
        return f"{number} from {_written(schema['minimum'])} to {_written(schema['maximum'])}"
    return _container_words(schema) or {"string": "a text"}.get(schema.get("type", ""), "")


def _container_words(schema: dict[str, Any]) -> str:
    if "properties" in schema:
        return f"an object with some of {', '.join(schema['properties'])}"
    if schema.get("type") == "object" and "maxProperties" in schema:
        return f"an object with at most {schema['maxProperties']} texts"
    if "items" in schema and "maxItems" in schema:
        return f"a list of at most {schema['maxItems']}"
    return ""


def _written(number: float) -> str:
    """Return a number with separators and without an exponent."""
    return f"{number:,.6f}".rstrip("0").rstrip(".")


def _in_words(reason: str, kind: Any, steps: list[str]) -> str:
    """Return a reason, reworded with the type's own description where msgspec's does not help."""
    if reason.startswith("Invalid enum value"):
        values = [value for schema in _schemas_at(kind, steps) for value in schema.get("enum", ())]
        return f"must be one of {', '.join(values)}" if values else reason
    if "matching regex" in reason:
        return f"must be {_allowed_at(kind, steps)}"
    return reason


def _schemas_at(kind: Any, steps: list[str]) -> list[dict[str, Any]]:
    """Return the schemas that are allowed at a path within a type."""
    schema, components = _schema_of(kind)
    found = list(_alternatives(schema, components))
    for step in steps:
        inner = [one for outer in found for one in _within(outer, step)]
        found = [one for schema in inner for one in _alternatives(schema, components)]
    return found


@cache
def _schema_of(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    [schema], components = msgspec.json.schema_components([kind], ref_template=_REFERENCE)
    return schema, components


def _alternatives(schema: dict[str, Any], components: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema:
        schema = components[schema["$ref"].removeprefix("#")]
    if "anyOf" not in schema:
        yield schema
    for one in schema.get("anyOf", ()):
        yield from _alternatives(one, components)


def _within(schema: dict[str, Any], step: str) -> Iterator[dict[str, Any]]:
    """Yield the schema that a step leads to: of a field, an item, a value or a name."""
    if step == _NAME:
        yield schema.get("propertyNames", {})
    elif not step.startswith("["):
        yield from filter(None, [schema.get("properties", {}).get(step)])
    elif "items" in schema:
        yield schema["items"]
    elif isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"]
