"""Finds the first difference between a sent value and its decoded copy.

The copy must be equal and of the same class. The exceptions are in ``docs/python.md``: subclasses
become their base, integers wider numbers, buffers ``bytes``, and collections ``list`` or ``set``
where the type is abstract.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from poussetaches.client import pydantic_models
from poussetaches.client.base_values import base_value
from poussetaches.client.json_value import SCALARS, fields_of
from poussetaches.client.type_parts import NO_TYPE, TypePart

_SHOWN_LENGTH = 100  # characters of a value in an error; it is one line
_COLLECTIONS = (list, tuple, deque, set, frozenset)
_BUILT_IN: frozenset[type] = frozenset({dict, list, tuple, set, frozenset})
_WIDER = frozenset({(int, float), (int, Decimal), (bytearray, bytes), (memoryview, bytes)})


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


@dataclass(frozen=True)
class Difference:
    """A changed value, and its path within the argument."""

    sent: object
    arrived: object
    path: str = ""
    is_key: bool = False

    def __str__(self) -> str:
        what = "the key " if self.is_key else ""
        place = f" - at `${self.path}`" if self.path else ""
        return f"{what}{_short(self.sent)} would arrive as {_short(self.arrived)}{place}"

    def with_prefix(self, step: str) -> Difference:
        """Return the difference with a path that begins at the enclosing value."""
        return replace(self, path=step + self.path)


def first_difference(sent: object, arrived: object, part: TypePart) -> Difference | None:
    """Return the first difference between two values of a type; None if they are the same."""
    kind: type = type(arrived)
    if kind in SCALARS and type(sent) is kind:
        return None if sent == arrived else Difference(sent, arrived)
    if not _may_become(sent, kind, part):
        return Difference(sent, arrived)
    if isinstance(arrived, dict) and isinstance(sent, Mapping):
        return _in_items(sent, arrived, kind, part=part)
    if isinstance(arrived, _COLLECTIONS) and isinstance(sent, Collection):
        return _in_collection(sent, arrived, part)
    fields = fields_of(arrived)
    if fields is not None:
        return _in_items(fields_of(sent) or {}, fields, kind, part=part)
    return None if _is_equal(sent, arrived) else Difference(sent, arrived)


def _may_become(sent: object, kind: type, part: TypePart) -> bool:
    """Return whether an equal value may be decoded as an instance of a class."""
    if type(sent) is kind:
        return True
    if kind in _BUILT_IN:
        return isinstance(sent, kind) or part.is_abstract_for(sent)
    if pydantic_models.is_model(kind):
        # A generic model may be sent as one of Page, and arrive as one of Page[int].
        origins = pydantic_models.generic_origin(kind), pydantic_models.generic_origin(type(sent))
        return type(sent) is origins[0] or kind is origins[1]
    base: type = type(base_value(sent))
    return base is kind or (base, kind) in _WIDER


def _in_items(
    sent: Mapping[Any, object], arrived: Mapping[Any, object], kind: type, *, part: TypePart
) -> Difference | None:
    for key, arrived_key in _matched(sent, arrived):
        if key is not arrived_key and key is not _NOTHING and arrived_key is not _NOTHING:
            difference = first_difference(key, arrived_key, NO_TYPE)
            if difference is not None:
                return replace(difference, is_key=True)
        step = arrived_key if key is _NOTHING else key
        value, arrived_value = sent.get(key, _NOTHING), arrived.get(arrived_key, _NOTHING)
        difference = first_difference(value, arrived_value, part.at(kind, step))
        if difference is not None:
            return difference.with_prefix(f".{step}")
    return None


def _in_collection(
    sent: Collection[object], arrived: Collection[object], part: TypePart
) -> Difference | None:
    kind: type = type(arrived)
    if isinstance(sent, AbstractSet):
        pairs = _matched(sent, arrived)
        differences = (first_difference(*pair, part.at(kind, 0)) for pair in pairs)
        return next(filter(None, differences), None)
    if len(sent) != len(arrived):
        return Difference(sent, arrived)
    if _are_same_scalars(sent, arrived):
        return None
    for place, (value, arrived_value) in enumerate(zip(sent, arrived, strict=True)):
        difference = first_difference(value, arrived_value, part.at(kind, place))
        if difference is not None:
            return difference.with_prefix(f"[{place}]")
    return None


def _are_same_scalars(sent: Collection[object], arrived: Collection[object]) -> bool:
    kinds = list(map(type, sent))
    return SCALARS.issuperset(kinds) and kinds == list(map(type, arrived)) and sent == arrived


def _matched(
    sent: Collection[object], arrived: Collection[object]
) -> Iterator[tuple[object, object]]:
    """Yield each member of a set, or key of a dict, with its decoded copy.

    Members without an equal copy are paired in order.
    """
    if _have_one_scalar_type(sent, arrived) and set(sent) == set(arrived):
        yield from zip(sent, sent, strict=True)
        return
    unmatched = {_normal(it): it for it in arrived}
    pairs = [(it, unmatched.pop(_normal(it), _NOTHING)) for it in sent]
    rest = iter(unmatched.values())
    for it, found in pairs:
        yield it, next(rest, _NOTHING) if found is _NOTHING else found
    for it in rest:
        yield _NOTHING, it


def _have_one_scalar_type(sent: Collection[object], arrived: Collection[object]) -> bool:
    kinds = {*map(type, sent), *map(type, arrived)}
    return len(kinds) == 1 and SCALARS.issuperset(kinds)


def _is_equal(sent: object, arrived: object) -> bool:
    try:
        return bool(_normal(sent) == _normal(arrived))
    except Exception:  # __eq__ may be the application's code
        return False


def _normal(value: object) -> object:
    """Return a hashable form of a value, equal for values with the same meaning.

    Moments become instants and offsets: in Python, times of different zones are never equal if
    one of them is ambiguous.
    """
    value = base_value(value)
    match value:
        case datetime():
            # Not a datetime: near datetime.min and datetime.max, conversion to UTC overflows.
            return value.replace(tzinfo=None, fold=0) - datetime.min, value.utcoffset()
        case time():
            # JSON keeps the offset, not the time zone.
            return value.replace(tzinfo=None, fold=0), value.utcoffset(), value.tzinfo is None
        case list() | tuple():
            return tuple(map(_normal, value))
        case AbstractSet():
            return frozenset(map(_normal, value))
        case dict():
            return frozenset((_normal(key), _normal(it)) for key, it in value.items())
    fields = fields_of(value)
    return value if fields is None else tuple((name, _normal(it)) for name, it in fields.items())


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"
