"""Values of one type as JSON and back, so that what arrives is what was sent."""

from __future__ import annotations

import enum
import functools
import math
import typing
from datetime import datetime

import msgspec
from msgspec.inspect import CustomType, type_info

from poussetaches.client import models
from poussetaches.client.base_values import base_class, decode_as_base
from poussetaches.client.comparison import first_difference
from poussetaches.client.plain import children, to_plain
from poussetaches.client.type_parts import TypePart
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.json_depth import MAX_DEPTH, is_too_deep


class CodecError(PousseTachesError):
    """A value cannot travel, or is not of the type."""


class NestedTooDeeply(CodecError):
    """It is nested too deeply."""


class Codec:
    """Checks, encodes and decodes the values of one type."""

    def __init__(self, hint: object) -> None:
        self._hint = hint
        self._decoder: msgspec.json.Decoder[object] | None = None

    def impossible(self) -> str | None:
        """Return why no value of this type can travel; none when some may."""
        try:
            info = type_info(models.with_model_unions(self._hint))
            self._ready()
        except TypeError as exc:
            return _one_line(exc)
        if isinstance(info, CustomType) and not _is_readable(info.cls):
            return _unreadable(info.cls)
        return None

    def encode(self, value: object, *, max_depth: int = MAX_DEPTH) -> object:
        """Return a value as plain JSON, which is sure to be the same value when it is decoded.

        Raises:
            CodecError: it is of another type, has no JSON, is nested deeper than ``max_depth``,
                or would arrive as something else.
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
        plain: object = msgspec.json.decode(body)
        return plain

    def decode(self, body: bytes) -> object:
        """Return the value that JSON stands for.

        Raises:
            CodecError: it is no JSON for a value of this type, or has a moment without a zone.
        """
        try:
            value = self._ready().decode(body)
            _refuse_naive(value)
        except RecursionError:
            raise NestedTooDeeply from None
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as exc:
            raise CodecError(_one_line(exc)) from exc
        return value

    @functools.cached_property
    def _type(self) -> TypePart:
        return TypePart(self._hint)

    def _ready(self) -> msgspec.json.Decoder[object]:
        # Not at the start: a type that no value travels as must not stop what never pushes one.
        if self._decoder is None:
            hint = models.with_model_unions(self._hint)
            self._decoder = msgspec.json.Decoder(
                typing.cast("type[object]", hint), dec_hook=_from_json
            )
        return self._decoder


def encode_json(value: object) -> bytes:
    """Return a value as JSON, the same in every process.

    Raises:
        CodecError: it has no JSON, or a moment in it has no zone.
    """
    try:
        plain = to_plain(value)
        body = msgspec.json.encode(plain)
        if b"null" in body:  # as msgspec writes numbers that are not finite
            _refuse_not_finite(plain)
        _refuse_naive(value)
    except RecursionError:
        raise NestedTooDeeply from None
    except (TypeError, ValueError) as exc:
        raise CodecError(_one_line(exc)) from exc
    return body


def _from_json(kind: type, plain: object) -> object:
    if models.is_read_by_pydantic(kind):
        return models.read(kind, plain)
    if not _is_readable(kind):
        raise CodecError(_unreadable(kind))
    if issubclass(kind, enum.Enum):
        return kind(plain)
    return decode_as_base(kind, plain)


def _is_readable(kind: type) -> bool:
    """Return whether there are values of a class that msgspec does not know by itself."""
    if models.is_read_by_pydantic(kind) or issubclass(kind, enum.Enum):
        return True
    base = base_class(kind)
    # While freezegun stops the clock, a hint of datetime is its class, of which datetime is one.
    return base is not None and issubclass(base, kind)


def _unreadable(kind: type) -> str:
    base = base_class(kind)
    advice = "" if base is None else f"; annotate it as {base.__name__}"
    return f"values of {kind.__qualname__} cannot be encoded as JSON{advice}"


def _refuse_not_finite(plain: object, path: str = "") -> None:
    if isinstance(plain, float) and not math.isfinite(plain):
        raise CodecError(f"JSON has no {plain}; give a finite number or None{_at(path)}")
    if isinstance(plain, dict):
        for key, item in plain.items():
            _refuse_not_finite(item, f"{path}.{key}")
    if isinstance(plain, list | tuple):
        for index, item in enumerate(plain):
            _refuse_not_finite(item, f"{path}[{index}]")


def _refuse_naive(value: object, path: str = "") -> None:
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise CodecError(
            f"{value} has no time zone; give one, as datetime.now(UTC) has{_at(path)}"
        )
    for step, inside in children(value):
        _refuse_naive(inside, path + step)


def _at(path: str) -> str:
    return f" - at `${path}`" if path else ""


def _too_deep(max_depth: int) -> str:
    return f"it is nested more than {max_depth} deep, which is the limit"


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())
