"""Values of one type as JSON and back, so that what arrives is what was sent."""

from __future__ import annotations

import sys
import typing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
from msgspec.inspect import CustomType, type_info

from poussetaches.core.errors import PousseTachesError

_SHOWN_LENGTH = 100  # characters of a value in an error; it is one line
# Types whose values stay as they are in a tree that is only looked at.
_LOOKED_AT = (bytes, bytearray, datetime, date, time, timedelta, Decimal, UUID)


class CodecError(PousseTachesError):
    """A value cannot travel, or is not of the type."""


class Codec:
    """Checks, encodes and decodes the values of one type."""

    def __init__(self, hint: object) -> None:
        self._hint = hint
        self._decoder: msgspec.json.Decoder[object] | None = None

    def impossible(self) -> str | None:
        """Return why no value of this type can travel; none when some may."""
        try:
            info = type_info(self._hint)
            self._ready()
        except TypeError as exc:
            return str(exc)
        if isinstance(info, CustomType) and not is_model(info.cls):
            return f"values of {_shown(self._hint)} cannot travel as JSON"
        return None

    def encode(self, value: object) -> object:
        """Return a value as plain JSON, which is sure to be the same value when it is decoded.

        Raises:
            CodecError: it is of another type, has no JSON, or would arrive as something else.
        """
        body = encode_json(value)
        arrives = self.decode(body)
        if not self._is_same(value, arrives):
            raise CodecError(f"{_short(value)} would arrive as {_short(arrives)}")
        plain: object = msgspec.json.decode(body)
        return plain

    def decode(self, body: bytes) -> object:
        """Return the value that JSON stands for.

        Raises:
            CodecError: it is no JSON for a value of this type, or has a moment without a zone.
        """
        try:
            value = self._ready().decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as exc:
            raise CodecError(_one_line(exc)) from exc
        _refuse_naive(value)
        return value

    def _is_same(self, sent: object, arrived: object) -> bool:
        if sent == arrived:
            return True
        # Of a type such as Sequence[int] a tuple arrives as a list: the same values in another
        # container. Without a type nothing says that this is meant.
        if self._hint is typing.Any:
            return False
        try:
            return _alike(_tree(sent), _tree(arrived))
        except TypeError:  # something in a model that only the model can compare
            return False

    def _ready(self) -> msgspec.json.Decoder[object]:
        # Not at the start: a type that no value travels as must not stop what never pushes one.
        if self._decoder is None:
            self._decoder = msgspec.json.Decoder(
                typing.cast("type[object]", self._hint), dec_hook=_from_json
            )
        return self._decoder


def encode_json(value: object) -> bytes:
    """Return a value as JSON.

    Raises:
        CodecError: it has no JSON, or a moment in it has no zone.
    """
    try:
        body = msgspec.json.encode(value, enc_hook=_to_json)
    except RecursionError:
        raise CodecError("it is nested too deeply") from None
    except (TypeError, ValueError) as exc:
        raise CodecError(_one_line(exc)) from exc
    _refuse_naive(value)
    return body


def is_model(kind: object) -> bool:
    """Tell whether this is a class of pydantic models, without loading pydantic."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _to_json(value: object) -> object:
    if is_model(type(value)):
        return typing.cast("_Model", value).model_dump(mode="json")
    raise TypeError(f"values of {_shown(type(value))} cannot travel as JSON")


def _from_json(kind: type, plain: object) -> object:
    if not is_model(kind):
        raise CodecError(f"values of {_shown(kind)} cannot travel as JSON")
    # As JSON, not as Python's values: a strict model takes a text for a date only there.
    return typing.cast("type[_Model]", kind).model_validate_json(msgspec.json.encode(plain))


def _to_tree(value: object) -> object:
    if is_model(type(value)):
        return typing.cast("_Model", value).model_dump(mode="python")
    raise TypeError(f"values of {_shown(type(value))} cannot be compared")


def _to_tree_or_none(value: object) -> object:
    return _to_tree(value) if is_model(type(value)) else None


class _Model(typing.Protocol):
    def model_dump(self, *, mode: str) -> object: ...

    @classmethod
    def model_validate_json(cls, json_data: bytes) -> object: ...


def _tree(value: object) -> object:
    """Return a value as plain dicts and lists, whose moments and numbers are still their own."""
    return msgspec.to_builtins(
        value, builtin_types=_LOOKED_AT, enc_hook=_to_tree, order="deterministic"
    )


def _refuse_naive(value: object) -> None:
    tree = msgspec.to_builtins(value, builtin_types=_LOOKED_AT, enc_hook=_to_tree_or_none)
    waiting: list[object] = [tree]
    while waiting:
        match waiting.pop():
            case datetime(tzinfo=None) as moment:
                raise CodecError(f"{moment} has no time zone; give one, as datetime.now(UTC) has")
            case dict() as fields:
                waiting += [*fields, *fields.values()]
            case list() | tuple() as items:
                waiting += items


def _alike(a: object, b: object) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    return a == b


def _shown(hint: object) -> str:
    return hint.__qualname__ if isinstance(hint, type) else str(hint)


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"
