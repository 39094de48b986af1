"""Encodes and decodes pydantic models without importing pydantic."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Mapping

import msgspec


def is_model(kind: object) -> bool:
    """Return whether a class is a pydantic model."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def is_read_by_pydantic(kind: object) -> bool:
    """Return whether ``read`` can make values of this class."""
    return is_model(kind) or isinstance(kind, _ModelUnion)


def fields_of(model: object) -> dict[str, object]:
    """Return all fields of a model: declared, private and extra ones.

    ``model_dump`` leaves out excluded fields, and applies serializers. An extra field with the
    name of another one, which has an alias then, is ``model_extra.name``.
    """
    values = typing.cast("_Model", model)
    fields = {
        name: values.__dict__[name]
        for name in type(values).model_fields
        if name in values.__dict__  # model_construct may leave some out
    }
    fields |= values.__pydantic_private__ or {}
    extra = values.__pydantic_extra__ or {}
    return fields | {
        f"model_extra.{name}" if name in fields else name: value for name, value in extra.items()
    }


def field_hints(kind: type) -> dict[str, object]:
    """Return the types of the declared fields."""
    fields = typing.cast("type[_Model]", kind).model_fields
    return {name: field.annotation for name, field in fields.items()}


def generic_origin(kind: type) -> object:
    """Return the generic model that a class specialises; None for other classes."""
    return getattr(kind, "__pydantic_generic_metadata__", {}).get("origin")


def root_of(value: object) -> object:
    """Return the root of a root model, which is sent instead; other values unchanged."""
    if is_model(type(value)) and issubclass(type(value), sys.modules["pydantic"].RootModel):
        return getattr(value, "root", value)
    return value


def dump(model: object) -> object:
    """Return a model as JSON values, by field names and without computed fields.

    Raises:
        ValueError: pydantic cannot dump it.
        RecursionError: it is nested too deeply.
    """
    values = typing.cast("_Model", model)
    try:
        # No warnings: the comparison with the copy that arrives finds what they are about.
        return values.model_dump(mode="json", round_trip=True, warnings=False)
    except ValueError as exc:
        if "depth exceeded" in str(exc):
            raise RecursionError from exc
        raise


def read(kind: type, json_value: object) -> object:
    """Return the model for JSON values, with fields by name or by alias."""
    # As JSON, not as Python values: strict models read a string as a date only from JSON.
    body = msgspec.json.encode(json_value)
    if isinstance(kind, _ModelUnion):
        return kind.adapter.validate_json(body, **_names_and_aliases())
    return typing.cast("type[_Model]", kind).model_validate_json(body, **_names_and_aliases())


def has_model_union(hint: object) -> bool:
    """Return whether ``with_model_unions`` would change a type."""
    return _is_model_union(hint) or any(map(has_model_union, typing.get_args(hint)))


def with_model_unions(hint: object) -> object:
    """Return a type in which pydantic reads each union that has a model.

    msgspec has no unions of models and others, except None.

    Raises:
        TypeError: pydantic cannot read such a union.
    """
    if not has_model_union(hint):
        return hint
    if _is_model_union(hint):
        return _ModelUnion(str(hint), (), {"adapter": _adapter(hint)})
    arguments = tuple(map(with_model_unions, typing.get_args(hint)))
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        metadata = typing.cast("typing.Any", hint).__metadata__
        return typing.Annotated[(arguments[0], *metadata)]
    if origin in UNIONS:
        return typing.Union[arguments]  # noqa: UP007  # of a tuple
    return typing.cast("typing.Any", origin)[arguments]


UNIONS = (typing.Union, types.UnionType)


class _ModelUnion(type):
    """A class that represents a union: every value that pydantic accepts is an instance."""

    adapter: _Adapter

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def _adapter(hint: object) -> object:
    pydantic = sys.modules["pydantic"]
    try:
        adapter: object = pydantic.TypeAdapter(hint)
    except pydantic.PydanticUserError as exc:
        raise TypeError(f"pydantic cannot read {hint}: {str(exc).splitlines()[0]}") from None
    return adapter


def _is_model_union(hint: object) -> bool:
    if typing.get_origin(hint) is typing.Annotated:  # it may have the discriminator
        return _is_model_union(typing.get_args(hint)[0])
    if typing.get_origin(hint) not in UNIONS:
        return False
    members = [it for it in typing.get_args(hint) if it is not types.NoneType]
    return len(members) > 1 and any(is_model(_without_metadata(it)) for it in members)


def _without_metadata(hint: object) -> object:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


@functools.cache
def _names_and_aliases() -> Mapping[str, bool]:
    model = sys.modules["pydantic"].BaseModel
    # Before pydantic 2.11 only `populate_by_name` of the model itself allows names.
    if "by_name" not in inspect.signature(model.model_validate_json).parameters:
        return {}
    return {"by_alias": True, "by_name": True}


class _Field(typing.Protocol):
    annotation: object


class _Model(typing.Protocol):
    model_fields: typing.ClassVar[dict[str, _Field]]
    __pydantic_extra__: dict[str, object] | None
    __pydantic_private__: dict[str, object] | None

    def model_dump(self, *, mode: str, round_trip: bool, warnings: bool) -> object: ...

    @classmethod
    def model_validate_json(cls, json_data: bytes, **options: bool) -> object: ...


class _Adapter(typing.Protocol):
    def validate_json(self, data: bytes, **options: bool) -> object: ...
