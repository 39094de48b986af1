"""The types of the values inside a value, from its type hint as msgspec reads it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from msgspec.inspect import (
    AnyType,
    CollectionType,
    DataclassType,
    DictType,
    Metadata,
    NamedTupleType,
    StructType,
    TupleType,
    Type,
    TypedDictType,
    UnionType,
    type_info,
)

from poussetaches.client import models

_FieldsType = DataclassType | NamedTupleType | StructType | TypedDictType


def has_untyped_part(info: Type) -> bool:
    """Return whether a type, or a type inside it, is ``Any``; ``list`` has one inside."""
    seen: set[int] = set()  # a class may contain itself
    waiting = [info]
    while waiting:
        part = waiting.pop()
        if isinstance(part, AnyType):
            return True
        if id(part) not in seen:
            seen.add(id(part))
            waiting += _parts(part)
    return False


def member_for(info: Type, value: object) -> Type | None:
    """Return the type itself, or the member of a union that a decoded value belongs to."""
    if isinstance(info, Metadata):
        return member_for(info.type, value)
    if not isinstance(info, UnionType):
        return info
    members = [member_for(member, value) for member in info.types]
    return next((it for it in members if isinstance(it, AnyType) or _holds(it, value)), None)


def part_at(info: Type | None, step: object) -> Type | None:
    """Return the type of the value at a key, an index or a field; None if it is not known."""
    match info:
        case None | AnyType():
            return info
        case DictType(value_type=part) | CollectionType(item_type=part):
            return part
        case TupleType(item_types=parts) if isinstance(step, int):
            return parts[step]
        case NamedTupleType(fields=fields) if isinstance(step, int):
            return fields[step].type
        case DataclassType() | StructType() | TypedDictType():
            return next((field.type for field in info.fields if field.name == step), None)
    return None


@functools.lru_cache(1024)
def model_part(model: type, field: str) -> Type | None:
    """Return the type of a field of a pydantic model; None if msgspec cannot read it."""
    try:
        return type_info(models.with_model_unions(models.field_hint(model, field)))
    except TypeError:
        return None


def _parts(info: Type) -> Sequence[Type]:
    match info:
        case Metadata(type=part) | DictType(value_type=part) | CollectionType(item_type=part):
            return (part,)
        case UnionType(types=parts) | TupleType(item_types=parts):
            return parts
    return [it.type for it in info.fields] if isinstance(info, _FieldsType) else ()


def _holds(info: Type | None, value: object) -> bool:
    match value:
        case dict():
            return isinstance(info, DictType | TypedDictType)
        case tuple():
            return isinstance(info, CollectionType | TupleType | NamedTupleType)
        case list():
            return isinstance(info, CollectionType)
    return isinstance(info, _FieldsType) and type(value) is info.cls
