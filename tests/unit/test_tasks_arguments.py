"""Arguments: as JSON and back, checked against the handler's types."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from inspect import Parameter
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.client.arguments import (
    ArgumentError,
    Arguments,
    Bound,
    DefinitionError,
    UnknownType,
)

DAY = date(2026, 9, 21)
PARIS = timezone(timedelta(hours=2))


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Address:
    street: str
    since: datetime | None = None
    tags: list[str] = field(default_factory=list)


class Point(NamedTuple):
    x: int
    y: int


class Person(msgspec.Struct):
    name: str
    address: Address


class Settings(TypedDict, total=False):
    size: int


class Order(pydantic.BaseModel):
    id: UUID
    total: Decimal
    placed_at: datetime
    homepage: pydantic.AnyUrl | None = None


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    day: date


class Secret(pydantic.BaseModel):
    password: pydantic.SecretStr


class Connection:
    """Nothing that JSON has a form for."""


NOTHING = Connection()


def taking(hint: object) -> Arguments:
    """Return the arguments of a function with one of this type."""

    def function(it: object) -> None:
        del it

    function.__annotations__["it"] = hint
    return Arguments(function)


def travel(arguments: Arguments, *args: object, **kwargs: object) -> Bound:
    """Return the arguments of a call as they arrive."""
    return arguments.decode(msgspec.json.encode(arguments.encode(args, kwargs)))


def as_called(function: Callable[..., object], *args: object, **kwargs: object) -> object:
    """Return what a function returns when its arguments have travelled."""
    bound = travel(Arguments(function), *args, **kwargs)
    return function(*bound.args, **bound.kwargs)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MOMENTS = st.datetimes(timezones=st.sampled_from([UTC, PARIS]))
ADDRESSES = st.builds(Address, street=st.text(), since=st.none() | MOMENTS)
# Types, and the values that a caller may give.
TRAVELLERS: list[tuple[object, st.SearchStrategy[object]]] = [
    (Any, JSON),
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (str, st.text()),
    (bytes, st.binary()),
    (datetime, MOMENTS),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9999))),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (list[date], st.lists(st.dates())),
    (set[int], st.sets(st.integers())),
    (tuple[int, str], st.tuples(st.integers(), st.text())),
    (dict[int, UUID], st.dictionaries(st.integers(), st.uuids())),
    (datetime | None, st.none() | MOMENTS),
    (int | str, st.integers() | st.text()),
    (Address, ADDRESSES),
    (Person, st.builds(Person, name=st.text(), address=ADDRESSES)),
    (Point, st.builds(Point, st.integers(), st.integers())),
    (Settings, st.fixed_dictionaries({}, optional={"size": st.integers()})),
    (
        Order,
        st.builds(
            Order,
            id=st.uuids(),
            total=st.decimals(allow_nan=False, allow_infinity=False),
            placed_at=MOMENTS,
            homepage=st.just(pydantic.AnyUrl("https://example.com/")),
        ),
    ),
    (list[Strict], st.lists(st.builds(Strict, day=st.dates()))),
    (Annotated[int, msgspec.Meta(ge=0)], st.integers(min_value=0)),
]


@pytest.mark.parametrize(("hint", "values"), TRAVELLERS, ids=[str(it) for it, _ in TRAVELLERS])
@given(data=st.data())
def test_value_arrives_as_it_was_sent(
    hint: object, values: st.SearchStrategy[object], data: st.DataObject
) -> None:
    value = data.draw(values)

    arrived = travel(taking(hint), value).kwargs["it"]

    assert arrived == value
    assert type(arrived) is type(value)


REFUSED: list[tuple[object, object, str]] = [
    (int, "1", "Expected `int`, got `str`"),
    (int, True, "Expected `int`, got `bool`"),
    (int, 1.5, "Expected `int`, got `float`"),
    (str, 1, "Expected `str`, got `int`"),
    (str, "\ud800", "surrogates not allowed"),
    (float, float("nan"), "Expected `float`, got `null`"),
    (datetime, datetime(2026, 1, 1), "has no time zone"),
    (list[datetime], [datetime(2026, 1, 1)], "has no time zone"),
    (dict[datetime, int], {datetime(2026, 1, 1): 1}, "has no time zone"),
    (Address, Address("x", datetime(2026, 1, 1)), "has no time zone"),
    (Order, Order(id=UUID(int=1), total=Decimal(1), placed_at=datetime(2026, 1, 1)), "no time"),
    (date, datetime(2026, 1, 1, tzinfo=UTC), "Invalid"),
    (date, "2026-01-01", "would arrive as datetime.date(2026, 1, 1)"),
    (bytes, "abcd", "would arrive as b"),  # which base64 can be read as
    (UUID, "no uuid", "Invalid UUID"),
    (Color, "green", "Invalid enum value"),
    (Literal["a"], "b", "Invalid enum value"),
    (Address, {"street": 1}, "Expected `str`, got `int` - at `$.street`"),
    (list[int], [1, "2"], "Expected `int`, got `str` - at `$[1]`"),
    (Strict, {"day": 1}, "validation error for Strict"),
    (Secret, Secret(password=pydantic.SecretStr("hush")), "would arrive as"),
    (Connection, Connection(), "Connection"),
    (Any, Connection(), "values of Connection cannot travel as JSON"),
    (Any, (1, 2), "(1, 2) would arrive as [1, 2]"),
    (Any, {1: 2}, "would arrive as"),
    (Any, datetime(2026, 1, 1, tzinfo=UTC), "would arrive as '2026-01-01T00:00:00Z'"),
    (Any, float("inf"), "would arrive as None"),
    (Any, {"a": {1j}}, "complex"),
    (Address | dict[str, int], Address("x"), "Type unions may not contain more than one"),
]


@pytest.mark.parametrize(("hint", "value", "reason"), REFUSED)
def test_value_that_cannot_travel_is_refused_by_the_arguments_name(
    hint: object, value: object, reason: str
) -> None:
    with pytest.raises(ArgumentError) as refusal:
        taking(hint).encode((value,), {})

    assert refusal.value.argument == "it"
    assert reason in refusal.value.reason


def test_value_without_an_end_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(ArgumentError, match="argument it: it is nested too deeply"):
        taking(Any).encode((endless,), {})


@pytest.mark.parametrize(
    ("hint", "value", "arrives"),
    [(Sequence[int], (1, 2), [1, 2]), (Mapping[str, date], {"a": DAY}, {"a": DAY})],
)
def test_value_of_an_abstract_type_arrives_in_the_usual_container(
    hint: object, value: object, arrives: object
) -> None:
    assert travel(taking(hint), value).kwargs["it"] == arrives


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"{", b"\xff"])
def test_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ArgumentError, match="the body is not a JSON object"):
        taking(int).decode(body)


def test_moment_that_arrives_without_a_zone_is_refused() -> None:
    with pytest.raises(ArgumentError, match="argument it: 2026-01-01 00:00:00 has no time zone"):
        taking(datetime).decode(b'{"it": "2026-01-01T00:00:00"}')


def test_arguments_travel_by_their_names() -> None:
    def send(user_id: int, *, subject: str = "hello") -> None: ...

    arguments = Arguments(send)

    assert arguments.encode((42,), {}) == {"user_id": 42}
    assert arguments.encode((), {"user_id": 42, "subject": "x"}) == {"user_id": 42, "subject": "x"}


def everything(a: int, b: int = 2, /, c: int = 3, *rest: int, d: int = 4, **more: int) -> object:
    return a, b, c, rest, d, more


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1,), {}),
        ((1, 5), {}),
        ((1, 5, 6), {}),
        ((1, 5, 6, 7, 8), {"d": 9}),
        ((1,), {"c": 7}),
        ((1,), {"d": 9, "e": 10, "args": 11}),
    ],
)
def test_handler_is_called_as_the_push_was(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    assert as_called(everything, *args, **kwargs) == everything(*args, **kwargs)


def test_variable_arguments_have_a_place_of_their_own_in_the_body() -> None:
    assert Arguments(everything).encode((1, 2, 3, 4, 5), {"e": 6}) == {
        "a": 1,
        "b": 2,
        "c": 3,
        "*rest": [4, 5],
        "e": 6,
    }


def test_default_is_that_of_the_code_that_runs_the_task() -> None:
    def pushed(a: int, b: int = 1) -> object: ...

    def runs(a: int, b: int = 2) -> object:
        return a, b

    body = msgspec.json.encode(Arguments(pushed).encode((0,), {}))

    assert Arguments(runs).decode(body) == Bound((), {"a": 0, "b": 2})


@pytest.mark.parametrize(
    ("args", "kwargs", "argument", "reason"),
    [
        ((), {}, "a", "it is missing"),
        ((1,), {"z": 1}, "z", "the task has none of this name"),
        ((1, 2, 3), {}, "", "too many positional arguments"),
        ((1,), {"a": 2}, "", "multiple values for argument 'a'"),
    ],
)
def test_call_that_does_not_fit_is_refused_at_the_push(
    args: tuple[int, ...], kwargs: dict[str, int], argument: str, reason: str
) -> None:
    def function(a: int, b: int = 1) -> None: ...

    with pytest.raises(ArgumentError) as refusal:
        Arguments(function).encode(args, kwargs)

    assert (refusal.value.argument, refusal.value.reason) == (argument, reason)


def test_name_of_a_positional_argument_is_refused_also_among_free_names() -> None:
    with pytest.raises(ArgumentError, match="argument a: it can be given by its position only"):
        Arguments(everything).encode((1,), {"a": 2})


@pytest.mark.parametrize(
    ("body", "argument", "reason"),
    [
        (b"{}", "user_id", "it is missing"),
        (b'{"user_id": "x"}', "user_id", "Expected `int`, got `str`"),
        (b'{"user": 1}', "user_id", "it is missing"),
        (b'{"user_id": 1, "user": 1}', "user", "the handler has none of this name"),
    ],
)
def test_arguments_that_no_longer_fit_are_named(body: bytes, argument: str, reason: str) -> None:
    def send(user_id: int) -> None: ...

    with pytest.raises(ArgumentError) as refusal:
        Arguments(send).decode(body)

    assert (refusal.value.argument, refusal.value.reason) == (argument, reason)


def test_variable_arguments_that_are_no_list_are_refused_on_arrival() -> None:
    with pytest.raises(ArgumentError, match="argument rest: Expected `array`"):
        Arguments(everything).decode(b'{"a": 1, "*rest": 1}')


def injected(parameter: Parameter, hint: object) -> bool:
    return hint is Connection


def with_connection(a: int, db: Connection, b: int = 2) -> None: ...


def test_parameter_that_the_framework_fills_in_never_travels() -> None:
    arguments = Arguments(with_connection, injected=injected)

    assert arguments.encode((1,), {"b": 3}) == {"a": 1, "b": 3}
    assert arguments.decode(b'{"a": 1, "b": 3}') == Bound((), {"a": 1, "b": 3})
    with pytest.raises(ArgumentError, match="db: it is filled in where the task runs"):
        arguments.encode((1,), {"db": 1})
    with pytest.raises(ArgumentError, match="db: it is filled in where the task runs"):
        arguments.decode(b'{"a": 1, "db": 1}')


def test_type_that_is_sure_to_fail_is_refused_at_the_definition() -> None:
    with pytest.raises(DefinitionError, match="argument db: values of Connection cannot travel"):
        Arguments(with_connection).check()
    with pytest.raises(DefinitionError, match="Type unions may not contain more than one"):
        taking(Address | dict[str, int]).check()


def test_type_that_some_values_travel_as_is_not_refused_at_the_definition() -> None:
    def function(
        a: list[Connection], b: Connection | None, c: Order, d: Connection = NOTHING
    ) -> None: ...

    Arguments(function).check()


def test_type_that_is_not_known_is_named() -> None:
    def function(a: Unheard) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(UnknownType, match="name 'Unheard' is not defined"):
        Arguments(function)
