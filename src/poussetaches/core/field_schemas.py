"""The JSON schemas of types: the fields at a path, and the allowed values in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

NAME_STEP = "[name]"  # a step to the names of an object instead of their values

_STEP = re.compile(r"\[[^]]*\]|[^.\[]+")  # of the path to a field: a[0].b, labels[...]
_REFERENCE = "#{name}"


def steps_of(field: str) -> list[str]:
    """Return the steps of a path such as ``retry.dead_on[1]``."""
    return _STEP.findall(field)


def fields_at(kind: Any, steps: list[str]) -> list[str]:
    """Return the names of the fields that an object at a path may have."""
    found = [schema.get("properties", {}) for schema in _schemas_at(kind, steps)]
    return list(dict.fromkeys(name for properties in found for name in properties))


def allowed_at(kind: Any, steps: list[str]) -> str:
    """Return the values allowed at a path in words; "" if any is."""
    # Each alternative of a union in its own words: a description is of one alternative alone.
    found = dict.fromkeys(map(_words_of, _schemas_at(kind, steps)))
    return ", or ".join(filter(None, found))


def _words_of(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "pattern" in schema:
        return str(schema["description"])
    if schema.get("format") == "date-time":
        return "a date and time with a time zone"
    words = _WORDS.get(schema.get("type", ""))
    return "" if words is None else words(schema)


def _range_of(schema: dict[str, Any]) -> str:
    above, least = schema.get("exclusiveMinimum"), schema.get("minimum")
    most = schema.get("maximum")
    if above is not None:
        return f" above {_written(above)}" + ("" if most is None else f", up to {_written(most)}")
    if least is not None and most is not None:
        return f" from {_written(least)} to {_written(most)}"
    if least is not None:
        return f" of at least {_written(least)}"
    return "" if most is None else f" of at most {_written(most)}"


def _object_words(schema: dict[str, Any]) -> str:
    if "properties" in schema:
        return f"an object with some of {', '.join(schema['properties'])}"
    if "maxProperties" in schema:
        return f"an object with at most {schema['maxProperties']} strings"
    return "an object"


def _list_words(schema: dict[str, Any]) -> str:
    return f"a list of at most {schema['maxItems']}" if "maxItems" in schema else "a list"


_WORDS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "integer": lambda schema: f"a whole number{_range_of(schema)}",
    "number": lambda schema: f"a number{_range_of(schema)}",
    "boolean": lambda _: "true or false",
    "string": lambda _: "a string",
    "array": _list_words,
    "object": _object_words,
}


def _written(number: float) -> str:
    """Return a number with separators and without an exponent."""
    return f"{number:,.6f}".rstrip("0").rstrip(".")


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
    if step == NAME_STEP:
        yield schema.get("propertyNames", {})
    elif not step.startswith("["):
        yield from filter(None, [schema.get("properties", {}).get(step)])
    elif "items" in schema:
        yield schema["items"]
    elif isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"]
