"""Converts values to JSON values: dicts, lists, strings, numbers, booleans and None."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from poussetaches.client import pydantic_models
from poussetaches.client.base_values import encode_as_base

Fields = dict[str, object]

SCALARS = frozenset({str, int, float, bool, type(None)})  # the same in JSON and here
_CONTAINERS = (list, tuple, set, frozenset)


def to_json_value(value: object) -> object:
    """Return a value as JSON values that are the same in every process: sets are sorted.

    Raises:
        TypeError: something in it has no JSON.
        ValueError: pydantic cannot dump a model in it.
        RecursionError: it contains itself, or is nested too deeply.
    """
    return _sort_sets(value, msgspec.to_builtins(value, enc_hook=_to_builtin))


def fields_of(value: object) -> Fields | None:
    """Return the fields of an object by name; None for other values."""
    kind: type = type(value)
    if pydantic_models.is_model(kind):
        return pydantic_models.fields_of(value)
    names = _field_names(kind)
    if names is None:
        return None
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


@functools.lru_cache(1024)
def _field_names(kind: type) -> tuple[str, ...] | None:
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return tuple(it.name for it in dataclasses.fields(kind))
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(it.name for it in kind.__attrs_attrs__)
    return None


def children(value: object) -> Iterator[tuple[str, object]]:
    """Yield the values inside a value, and the keys of a dict, with their paths.

    Scalars are left out.
    """
    if isinstance(value, dict):
        yield from _items(value)
        if not SCALARS.issuperset(map(type, value)):
            yield from ((f".{key}", key) for key in value)
    elif isinstance(value, _CONTAINERS):
        if not SCALARS.issuperset(map(type, value)):
            is_set = isinstance(value, set | frozenset)
            yield from (("" if is_set else f"[{at}]", it) for at, it in enumerate(value))
    else:
        yield from _items(fields_of(value) or {})


def _items(values: Mapping[Any, object]) -> Iterator[tuple[str, object]]:
    return ((f".{key}", it) for key, it in values.items() if type(it) not in SCALARS)


def _to_builtin(value: object) -> object:
    if pydantic_models.is_model(type(value)):
        return pydantic_models.dump(value)
    return encode_as_base(value)


def _sort_sets(value: object, json_value: object) -> object:
    """Return a JSON value in which each list that was a set is sorted."""
    value = pydantic_models.root_of(value)
    if isinstance(json_value, dict):
        originals = _items_by_key(value, json_value)
        return {key: _sort_sets(originals.get(key), item) for key, item in json_value.items()}
    if not isinstance(json_value, list | tuple):
        return json_value
    items: Sequence[object] = json_value
    if not SCALARS.issuperset(map(type, json_value)):
        values = value if isinstance(value, _CONTAINERS) else (fields_of(value) or {}).values()
        if len(values) == len(json_value):  # a custom serializer may return another length
            items = list(map(_sort_sets, values, json_value))
    # By JSON: the members of a set may have no order.
    is_set = isinstance(value, set | frozenset)
    return sorted(items, key=msgspec.json.encode) if is_set else items


def _items_by_key(value: object, json_value: Fields) -> Fields:
    if isinstance(value, dict):
        return (
            dict(zip(json_value, value.values(), strict=True))
            if len(value) == len(json_value)
            else {}
        )
    fields = fields_of(value) or {}
    if isinstance(value, msgspec.Struct):
        return dict(zip(value.__struct_encode_fields__, fields.values(), strict=True))
    return fields
