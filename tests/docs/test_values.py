"""docs/python.md's table of values: each example does what its row says."""

from __future__ import annotations

import collections.abc
import enum
import typing
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Generic, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pydantic
import pytest
from django.utils.safestring import SafeString

from poussetaches.client.arguments import ArgumentError, Arguments, DefinitionError

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
HEADING = "| kind | example | hint | arrives |"


class Color(enum.Enum):
    RED = "red"


class Ratio(enum.Enum):
    HALF = 0.5


class Cents(int): ...


class Stamp(datetime): ...


@dataclass
class Point:
    x: int
    y: int


class Order(pydantic.BaseModel):
    number: int
    note: str = pydantic.Field(default="", exclude=True)


class GiftOrder(Order): ...


class Refund(pydantic.BaseModel):
    order: int


class Return(pydantic.BaseModel):
    order: int


class Price(pydantic.BaseModel):
    amount: float

    @pydantic.field_serializer("amount")
    def round(self, amount: float) -> float:
        return round(amount, 2)


class Parcel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    address: int = pydantic.Field(alias="to")


class Size(TypedDict):
    size: int


Item = TypeVar("Item")


class Page(pydantic.BaseModel, Generic[Item]):
    items: list[Item]


NAMES = {
    **{it.__name__: it for it in (Color, Ratio, Cents, Stamp, Point, Price)},
    **{it.__name__: it for it in (Order, GiftOrder, Refund, Return, Parcel)},
    **{it.__name__: it for it in (Size, Page, OrderedDict, Collection)},
    **{it.__name__: it for it in (Decimal, SafeString, Sequence, ZoneInfo, datetime, time)},
    **{"Any": typing.Any, "Optional": typing.Optional, "Union": typing.Union},
    **{"UTC": UTC, "numpy": np, "collections": collections},
}


def rows() -> list[tuple[str, str, str, str]]:
    """Return the cells of the table's rows."""
    lines = PAGE.read_text().split(HEADING)[1].splitlines()[2:]
    table = lines[: lines.index("")]
    return [
        (kind, example, hint, arrives)
        for kind, example, hint, arrives in (line.strip("| ").split(" | ") for line in table)
    ]


def value_of(code: str) -> object:
    value: object = eval(code.strip("`"), dict(NAMES))  # noqa: S307  # the page is ours
    return value


def taking(hint: object) -> Arguments:
    """Return the arguments of a function with one of this type."""

    def function(it: object) -> None:
        del it

    function.__annotations__["it"] = hint
    return Arguments(function)


@pytest.mark.parametrize(("kind", "example", "hint", "arrives"), rows())
def test_example_does_what_its_row_says(kind: str, example: str, hint: str, arrives: str) -> None:
    sent = value_of(example)
    arguments = taking(typing.Any if hint == "none" else value_of(hint))
    if arrives.startswith("refused at the definition"):
        with pytest.raises(DefinitionError):
            arguments.check()
        return
    if arrives.startswith("refused"):
        with pytest.raises((ArgumentError, DefinitionError)):
            arguments.encode((sent,), {})
        return

    arrived = arguments.decode(msgspec.json.encode(arguments.encode((sent,), {}))).kwargs["it"]

    arguments.check()
    if arrives.startswith("the same instant"):
        assert isinstance(sent, datetime)
        assert isinstance(arrived, datetime)
        assert arrived.isoformat() == sent.isoformat()
    elif arrives.startswith("the same"):
        assert arrived == sent
        assert type(arrived) is type(sent)
    else:
        expected, _, _ = arrives.partition("; ")
        assert arrived == value_of(expected)
        assert type(arrived) is type(value_of(expected))


def test_table_has_rows() -> None:
    assert len(rows()) > 20
