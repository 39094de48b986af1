"""Dates whose class is a subclass, as freezegun makes ``datetime`` one while time is frozen.

msgspec keeps the class that it finds when it first reads a type, and gives subclasses to these.
"""

from __future__ import annotations

from datetime import date, datetime

import msgspec


def date_from_json(kind: type, text: object) -> object:
    """Return the date or moment that JSON says.

    Raises:
        NotImplementedError: the type is another.
        ValueError: it is none.
    """
    if not issubclass(kind, date):
        raise NotImplementedError(kind)
    # By what the subclass derives from: its own name may be bound to the subclass again.
    base = next(each for each in kind.__mro__ if each.__module__ == "datetime")
    return msgspec.convert(text, base)


def date_to_json(value: object) -> object:
    """Return a date or moment as text.

    Raises:
        NotImplementedError: it is neither.
    """
    if not isinstance(value, date):
        raise NotImplementedError(f"values of {type(value).__qualname__} have no JSON")
    return datetime.isoformat(value) if isinstance(value, datetime) else date.isoformat(value)
