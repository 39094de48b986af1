"""Values of subclasses travel as values of their base class.

A ``Markup`` is sent as a ``str``, a moment of pendulum or freezegun as a ``datetime``. Arguments,
results, requests and answers all follow these rules.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec

_NUMPY_KINDS = "biufSU"  # booleans, integers, floats and texts; not moments, which have no zone


def base_value(value: object) -> object:
    """Return the value of a subclass as one of its base class; other values unchanged.

    A scalar of numpy becomes a number or a text.
    """
    kind = type(value)
    if kind in _EXACT:
        return value
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        item: object = value.item()
        if value.dtype.kind in _NUMPY_KINDS and not isinstance(item, numpy.generic):
            return item
        return value
    for base, to_base in _BASES:
        if isinstance(value, base):
            return to_base(base, value)
    return value


def base_class(kind: type) -> type | None:
    """Return the class that values of this class or of its subclasses travel as."""
    return next((base for base, _ in _BASES if issubclass(kind, base)), None)


def encode_as_base(value: object) -> object:
    """Return a value that msgspec can encode, in place of one of a subclass.

    Raises:
        TypeError: the value is of no subclass that travels as its base.
    """
    base = base_value(value)
    if base is value:
        raise TypeError(f"values of {type(value).__qualname__} cannot be encoded as JSON")
    return base


def decode_as_base(kind: type, json_value: object) -> object:
    """Return a value of the base class, where the type hint is a subclass.

    While freezegun stops the clock, it replaces ``datetime`` with such a subclass.
    """
    return msgspec.convert(json_value, base_class(kind))


# The classes are passed on in this table, and never read from the module: freezegun replaces
# `datetime` and `date` there while it stops the clock.
_ToBase = Callable[[typing.Any, typing.Any], object]
_BASES: tuple[tuple[type, _ToBase], ...] = (
    (str, lambda base, it: base.__str__(it)),
    (int, lambda base, it: base.__int__(it)),
    (float, lambda base, it: base.__float__(it)),
    (bytes, lambda base, it: base().join([it])),
    (
        datetime,
        lambda base, it: base(
            *(it.year, it.month, it.day, it.hour, it.minute, it.second, it.microsecond),
            tzinfo=it.tzinfo,
            fold=it.fold,
        ),
    ),
    (date, lambda base, it: base(it.year, it.month, it.day)),
    (
        time,
        lambda base, it: base(
            *(it.hour, it.minute, it.second, it.microsecond), tzinfo=it.tzinfo, fold=it.fold
        ),
    ),
    (
        timedelta,
        lambda base, it: base(microseconds=base.__floordiv__(it, base(microseconds=1))),
    ),
    (Decimal, lambda base, it: base(it)),
    (UUID, lambda base, it: base(int=it.int)),
)
_EXACT = frozenset({*(base for base, _ in _BASES), bool, type(None), dict, list, tuple, set})
