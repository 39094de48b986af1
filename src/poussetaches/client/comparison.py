"""The first difference between a value that is sent and the one that would arrive."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, time

from msgspec.inspect import AnyType, Type

from poussetaches.client import models
from poussetaches.client.base_values import base_value
from poussetaches.client.plain import SCALARS, fields_of
from poussetaches.client.type_parts import member_for, model_part, part_at

_SHOWN_LENGTH = 100  # characters of a value in an error; it is one line


@dataclass(frozen=True)
class Difference:
    """A value that would change, and its path within the argument."""

    sent: object
    arrived: object
    path: str = ""

    def __str__(self) -> str:
        place = f" - at `${self.path}`" if self.path else ""
        return f"{_short(self.sent)} would arrive as {_short(self.arrived)}{place}"

    def inside(self, step: str) -> Difference:
        """Return the difference with a path from the enclosing value."""
        return replace(self, path=step + self.path)


@dataclass(frozen=True)
class Comparison:
    """Compares a value that is sent with the one that would arrive.

    Where the type says nothing (``Any``), a tuple may not arrive as a list, nor an enum as its
    value. With ``same_classes``, a model may not arrive as an instance of a base class.
    """

    info: Type | None  # of the value; None if no part of it is Any
    same_classes: bool

    def difference(self, sent: object, arrived: object) -> Difference | None:
        """Return the first difference between two values."""
        return self._difference(sent, arrived, self.info)

    def _difference(self, sent: object, arrived: object, info: Type | None) -> Difference | None:
        if type(arrived) in SCALARS and type(sent) in SCALARS:
            return None if sent == arrived else Difference(sent, arrived)
        info = None if info is None else member_for(info, arrived)
        if isinstance(arrived, dict):
            return self._in_dict(sent, arrived, info)
        if isinstance(arrived, list | tuple):
            return self._in_sequence(sent, arrived, info)
        fields = fields_of(arrived)
        if fields is not None:
            return self._in_fields(sent, arrived, fields, info=info)
        is_same = _is_same(sent, arrived, is_untyped=isinstance(info, AnyType))
        return None if is_same else Difference(sent, arrived)

    def _in_dict(
        self, sent: object, arrived: dict[object, object], info: Type | None
    ) -> Difference | None:
        items = sent if isinstance(sent, dict) else None
        if items is None and not isinstance(info, AnyType):
            items = fields_of(sent)
        if items is None:
            return Difference(sent, arrived)
        if not SCALARS.issuperset(map(type, items)):
            items = {_normal(key): value for key, value in items.items()}
            arrived = {_normal(key): value for key, value in arrived.items()}
        if items.keys() != arrived.keys():
            return Difference(sent, arrived)
        for key, value in items.items():
            difference = self._difference(value, arrived[key], part_at(info, key))
            if difference is not None:
                return difference.inside(f".{key}")
        return None

    def _in_sequence(
        self, sent: object, arrived: Sequence[object], info: Type | None
    ) -> Difference | None:
        if isinstance(info, AnyType) and not isinstance(sent, type(arrived)):
            return Difference(sent, arrived)
        if isinstance(sent, set | frozenset):
            return (
                None if _normal(sent) == _normal(frozenset(arrived)) else Difference(sent, arrived)
            )
        if not isinstance(sent, list | tuple) or len(sent) != len(arrived):
            return Difference(sent, arrived)
        if sent == arrived and SCALARS.issuperset(map(type, sent)):
            return None
        for place, value in enumerate(sent):
            difference = self._difference(value, arrived[place], part_at(info, place))
            if difference is not None:
                return difference.inside(f"[{place}]")
        return None

    def _in_fields(
        self, sent: object, arrived: object, fields: dict[str, object], *, info: Type | None
    ) -> Difference | None:
        items = sent if isinstance(sent, dict) else fields_of(sent)
        if items is None or items.keys() != fields.keys():
            return Difference(sent, arrived)
        if not isinstance(sent, dict) and not self._may_become(type(sent), type(arrived)):
            return Difference(sent, arrived)
        kind: type = type(arrived)
        is_model = models.is_model(kind)
        for name, value in items.items():
            part = model_part(kind, name) if is_model else part_at(info, name)
            difference = self._difference(value, fields[name], part)
            if difference is not None:
                return difference.inside(f".{name}")
        return None

    def _may_become(self, sent: type, arrived: type) -> bool:
        if self.same_classes and models.is_model(sent):
            return sent is arrived
        # A generic model may be sent as one of Page, and arrive as one of Page[int].
        return issubclass(sent, arrived) or issubclass(arrived, sent)


def _is_same(sent: object, arrived: object, *, is_untyped: bool) -> bool:
    if isinstance(sent, enum.Enum) and not isinstance(arrived, enum.Enum):
        if is_untyped and not isinstance(sent, str | int):
            return False
        sent = sent.value
    try:
        return bool(_normal(sent) == _normal(arrived))
    except Exception:  # __eq__ may be the application's code
        return False


def _normal(value: object) -> object:
    """Return a hashable form of a value, equal for values that mean the same.

    Moments become instants: in Python, times of different zones are never equal if one of them
    is ambiguous.
    """
    value = base_value(value)
    match value:
        case datetime():
            # Not a datetime: near datetime.min and datetime.max, conversion to UTC overflows.
            offset = value.utcoffset()
            since = value.replace(tzinfo=None, fold=0) - datetime.min
            return since if offset is None else (since - offset, "UTC")
        case time():
            # A zone whose offset depends on the date does not arrive.
            return value.replace(tzinfo=None, fold=0), value.utcoffset(), value.tzinfo is None
        case enum.Enum():
            return value.value
        case list() | tuple():
            return tuple(map(_normal, value))
        case AbstractSet():
            return frozenset(map(_normal, value))
    fields = fields_of(value)
    return value if fields is None else tuple((name, _normal(it)) for name, it in fields.items())


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"
