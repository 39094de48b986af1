"""Encodes values of one type as JSON, and decodes them to equal values."""

from __future__ import annotations

import enum
import functools
import math
import typing
from datetime import datetime

import msgspec
from msgspec.inspect import CustomType, type_info

from poussetaches.client import pydantic_models
from poussetaches.client.base_values import base_class, decode_as_base
from poussetaches.client.json_value import children, to_json_value
from poussetaches.client.type_parts import TypePart
from poussetaches.client.value_comparison import first_difference
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.nesting import MAX_DEPTH, is_too_deep


class CodecError(PousseTachesError):
    """A value has no JSON, would change on the way, or has the wrong type."""


class NestedTooDeeply(CodecError):
    """The value is nested too deeply."""


class Codec:
    """Checks, encodes and decodes the values of one type."""

    def __init__(self, hint: object) -> None:
        self._hint = hint

    def impossible(self) -> str | None:
        """Return why no value of this type can be encoded; None if some can."""
        try:
            info = type_info(pydantic_models.with_model_unions(self._hint))
            self._decoder  # noqa: B018  # raises if there is none
        except TypeError as exc:
            return _one_line(exc)
        if isinstance(info, CustomType) and not _is_readable(info.cls):
            return _unreadable(info.cls)
        return None

    def encode(self, value: object, *, max_depth: int = MAX_DEPTH) -> object:
        """Return a value as JSON values that decode to an equal value.

        Raises:
            CodecError: it has the wrong type or no JSON, is nested deeper than ``max_depth``,
                or would decode to a different value.
        """
        try:
            body = encode_json(value)
        except NestedTooDeeply:
            raise CodecError(_too_deep(max_depth)) from None
        if is_too_deep(body, limit=max_depth):
            raise CodecError(_too_deep(max_depth))
        arrives = self.decode(body)
        difference = first_difference(value, arrives, self._type)
        if difference is not None:
            raise CodecError(str(difference))
        json_value: object = msgspec.json.decode(body)
        return json_value

    def decode(self, body: bytes) -> object:
        """Return the value of a JSON document.

        Raises:
            CodecError: it is not JSON of this type, or has a moment without a time zone.
        """
        try:
            value = self._decoder.decode(body)
            _check_time_zones(value)
        except RecursionError:
            raise NestedTooDeeply from None
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as exc:
            raise CodecError(_one_line(exc)) from exc
        return value

    @functools.cached_property
    def _type(self) -> TypePart:
        return TypePart(self._hint)

    @functools.cached_property
    def _decoder(self) -> msgspec.json.Decoder[object]:
        # On first use: a type without JSON must not stop an application that never pushes it.
        hint = pydantic_models.with_model_unions(self._hint)
        return msgspec.json.Decoder(typing.cast("type[object]", hint), dec_hook=_from_json)


def encode_json(value: object) -> bytes:
    """Return a value as JSON that is the same in every process.

    Raises:
        CodecError: it has no JSON, or a moment in it has no time zone.
    """
    try:
        json_value = to_json_value(value)
        body = msgspec.json.encode(json_value)
        if b"null" in body:  # msgspec encodes NaN and infinity as null
            _check_finite(json_value)
        _check_time_zones(value)
    except RecursionError:
        raise NestedTooDeeply from None
    except (TypeError, ValueError) as exc:
        raise CodecError(_one_line(exc)) from exc
    return body


def _from_json(kind: type, json_value: object) -> object:
    if pydantic_models.is_read_by_pydantic(kind):
        return pydantic_models.read(kind, json_value)
    if not _is_readable(kind):
        raise CodecError(_unreadable(kind))
    if issubclass(kind, enum.Enum):
        return kind(json_value)
    return decode_as_base(kind, json_value)


def _is_readable(kind: type) -> bool:
    """Return whether values of a class that msgspec does not support can be decoded."""
    if pydantic_models.is_read_by_pydantic(kind) or issubclass(kind, enum.Enum):
        return True
    base = base_class(kind)
    # While freezegun stops the clock, a hint of datetime is FakeDatetime, and
    # datetime counts as its subclass.
    return base is not None and issubclass(base, kind)


def _unreadable(kind: type) -> str:
    base = base_class(kind)
    advice = "" if base is None else f"; annotate it as {base.__name__}"
    return f"values of {kind.__qualname__} cannot be encoded as JSON{advice}"


def _check_finite(json_value: object, path: str = "") -> None:
    if isinstance(json_value, float) and not math.isfinite(json_value):
        raise CodecError(
            f"JSON has no {json_value}; give a finite number or None{_path_suffix(path)}"
        )
    if isinstance(json_value, dict):
        for key, item in json_value.items():
            _check_finite(item, f"{path}.{key}")
    if isinstance(json_value, list | tuple):
        for index, item in enumerate(json_value):
            _check_finite(item, f"{path}[{index}]")


def _check_time_zones(value: object, path: str = "") -> None:
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise CodecError(
            f"{value} has no time zone; use an aware one, as in datetime.now(UTC)"
            f"{_path_suffix(path)}"
        )
    for step, inside in children(value):
        _check_time_zones(inside, path + step)


def _path_suffix(path: str) -> str:
    return f" - at `${path}`" if path else ""


def _too_deep(max_depth: int) -> str:
    return f"it is nested more than {max_depth} levels deep, the maximum"


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())
