"""Arguments: as JSON and back, checked against the handler's types."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from inspect import Parameter
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import freezegun
import msgspec
import numpy as np
import pydantic
import pytest
from django.db.models import IntegerChoices, TextChoices
from django.utils.safestring import SafeString
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from poussetaches.client.arguments import (
    ArgumentError,
    Arguments,
    Bound,
    DefinitionError,
    UnknownType,
)
from tests.application import make_tasks

DAY = date(2026, 9, 21)
PARIS = timezone(timedelta(hours=2))


BERLIN = ZoneInfo("Europe/Berlin")
TWICE = datetime(2027, 10, 31, 2, 30, tzinfo=BERLIN)  # the clock shows it once more later
TWICE_LATER = TWICE.replace(fold=1)
SKIPPED = datetime(2027, 3, 28, 2, 30, tzinfo=BERLIN)
EARLIEST = datetime.min.replace(tzinfo=PARIS)  # in UTC it would be in the year 0


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Number(enum.Enum):
    ONE = 1
    TWO = -2


class TextMixin(str, enum.Enum):  # noqa: UP042  # as it was written before there was StrEnum
    A = "a"


class IntMixin(int, enum.Enum):
    ONE = 1


class Text(enum.StrEnum):
    A = "a"


class Integer(enum.IntEnum):
    ONE = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class IntRight(enum.IntFlag):
    READ = 1
    WRITE = 2


class Size(TextChoices):
    SMALL = "s", "small"


class Level(IntegerChoices):
    HIGH = 3, "high"


class FloatEnum(enum.Enum):
    HALF = 0.5


class FloatMixin(float, enum.Enum):
    HALF = 0.5


class TupleEnum(enum.Enum):
    PAIR = (1, 2)


class MixedEnum(enum.Enum):
    ONE = 1
    TEXT = "text"


class BoolEnum(enum.Enum):
    YES = True


class OwnStr(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another"


class OwnInt(int):
    def __int__(self) -> int:
        return -1


class OwnFloat(float): ...


class OwnBytes(bytes): ...


class OwnDatetime(datetime): ...


class OwnDate(date): ...


class OwnTime(time): ...


class OwnTimedelta(timedelta): ...


class OwnDecimal(Decimal): ...


class NoOffset(tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, dt: datetime | None) -> None: ...
    def dst(self, dt: datetime | None) -> None: ...
    def tzname(self, dt: datetime | None) -> None: ...


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


class Account(pydantic.BaseModel):
    """Has fields that are not serialised, and fields with defaults."""

    name: str
    password: str = pydantic.Field(default="", exclude=True)
    price: Decimal = Decimal(0)
    _token: str = pydantic.PrivateAttr("")

    @pydantic.field_serializer("price")
    def round(self, price: Decimal) -> Decimal:
        return price.quantize(Decimal("1.00"))


class Administrator(Account):
    rights: list[str] = []


class Team(pydantic.BaseModel):
    members: list[Account]


class Aliases(pydantic.BaseModel):
    by_alias: int = pydantic.Field(alias="alias")
    read: int = pydantic.Field(validation_alias="in")
    written: int = pydantic.Field(serialization_alias="out")
    both: int = pydantic.Field(validation_alias="b_in", serialization_alias="b_out")
    path: int = pydantic.Field(validation_alias=pydantic.AliasPath("list", 0))


class ByName(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True, alias_generator=str.upper)
    first: int


class Swapped(pydantic.BaseModel):
    a: int = pydantic.Field(alias="b")
    b: int = pydantic.Field(alias="a")


class Rectangle(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    width: int

    @pydantic.computed_field
    def area(self) -> int:
        return self.width**2


class Free(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    name: str


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Puppy(Dog): ...


class Circle(pydantic.BaseModel):
    size: int


class Square(pydantic.BaseModel):
    size: int


class Tags(pydantic.RootModel[set[str]]): ...


Item = TypeVar("Item")


class Page(pydantic.BaseModel, Generic[Item]):
    items: list[Item]


class Meeting(pydantic.BaseModel):
    at: datetime
    guests: set[str] = set()


@dataclass
class Event:
    at: datetime
    tags: frozenset[str] = frozenset()


@dataclass
class Vip(Event):
    table: int = 0


class Numbers(pydantic.BaseModel):
    inner: dict[str, list[set[int]]]


class RootNumbers(pydantic.RootModel[set[int]]): ...


@dataclass
class Numbered:
    numbers: frozenset[int]


class RenamedNumbers(msgspec.Struct, rename="camel", tag="numbers"):
    all_numbers: set[int]


class ListedNumbers(msgspec.Struct, array_like=True):
    numbers: set[int]


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True, tag="renamed"):
    start_at: datetime
    tag_set: set[str] = set()


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


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        # Moments of a clock that is put back or forward, wherever they stand.
        (datetime, TWICE),
        (datetime, TWICE_LATER),
        (datetime, SKIPPED),
        (datetime, EARLIEST),
        (datetime | None, TWICE),
        (list[datetime], [TWICE, TWICE_LATER]),
        (tuple[datetime, ...], (TWICE,)),
        (set[datetime], {TWICE}),
        (dict[str, datetime], {"a": TWICE}),
        (dict[datetime, int], {TWICE: 1}),
        (Event, Event(TWICE)),
        (list[Event], [Event(TWICE_LATER)]),
        (Renamed, Renamed(TWICE)),
        (Meeting, Meeting(at=TWICE)),
        (Order, Order(id=UUID(int=1), total=Decimal(1), placed_at=TWICE)),
        (time, time(2, 30, tzinfo=PARIS)),
        (time, time(2, 30)),
        (list[time], [time(2, 30, tzinfo=UTC)]),
        # Enums of every make.
        (Number, Number.TWO),
        (TextMixin, TextMixin.A),
        (IntMixin, IntMixin.ONE),
        (Text, Text.A),
        (Integer, Integer.ONE),
        (Right, Right.READ | Right.WRITE),
        (IntRight, IntRight.READ | IntRight.WRITE),
        (Size, Size.SMALL),
        (Level, Level.HIGH),
        (list[Size], [Size.SMALL]),
        (Size | None, Size.SMALL),
        (dict[Color, int], {Color.RED: 1}),
        # Models of pydantic.
        (Account, Account(name="a", price=Decimal("1.50"))),
        (
            Aliases,
            Aliases.model_validate({"alias": 1, "in": 2, "written": 3, "b_in": 4, "list": [5]}),
        ),
        (ByName, ByName(first=1)),
        (Rectangle, Rectangle(width=2)),
        (Free, Free.model_validate({"anything": [1]})),
        (Tags, Tags({"a"})),
        (Page[int], Page(items=[1])),
        (Cat | Dog, Dog(name="Rex")),
        (list[Cat | Dog], [Cat(name="Tom"), Dog(name="Rex")]),
        (dict[str, Cat | Dog | None], {"a": Cat(name="Tom"), "b": None}),
        (Annotated[Cat | Dog, pydantic.Field(discriminator="kind")], Dog(name="Rex")),
        (Cat | int | str, Cat(name="Tom")),
        (Cat | int | str, 1),
        (Cat | int | str, "1"),
        (Cat | Address, Address("x")),
        (Circle | Square, Circle(size=1)),
    ],
    ids=str,
)
def test_value_of_a_kind_arrives_as_it_was_sent(hint: object, value: object) -> None:
    arrived = travel(taking(hint), value).kwargs["it"]

    assert meaning(arrived) == meaning(value)
    assert taking(hint).check() is None  # type: ignore[func-returns-value]


def meaning(value: object) -> object:
    """Return what a value means: its JSON, in which moments have their offsets."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=kind_and_content)


def kind_and_content(model: object) -> object:
    if isinstance(model, datetime):
        return datetime.fromisoformat(model.isoformat())
    if isinstance(model, enum.Enum):  # msgspec 0.20 knows none of Django's
        return [type(model).__name__, model.value]
    content = {
        name: sorted(value) if isinstance(value, set) else value  # equal sets differ in order
        for name, value in vars(model).items()
    }
    return [type(model).__name__.split("[")[0], content]


@pytest.mark.parametrize(
    ("hint", "value", "arrives"),
    [
        (str, SafeString("<b>"), "<b>"),
        (str, Markup("<b>"), "<b>"),
        (str, OwnStr("x"), "x"),
        (str, np.str_("x"), "x"),
        (str, Size.SMALL, "s"),
        (int, OwnInt(5), 5),
        (int, np.int64(5), 5),
        (int, np.uint8(5), 5),
        (int, Level.HIGH, 3),
        (float, OwnFloat(0.1), 0.1),
        (float, np.float64(0.1), 0.1),
        (float, np.float32(0.5), 0.5),
        (bool, np.bool_(True), True),
        (bytes, OwnBytes(b"x"), b"x"),
        (bytes, bytearray(b"x"), b"x"),
        (datetime, OwnDatetime(2027, 10, 31, 2, 30, tzinfo=BERLIN, fold=1), TWICE_LATER),
        (date, OwnDate(2026, 9, 21), DAY),
        (time, OwnTime(1, 2, 3, 4, tzinfo=PARIS), time(1, 2, 3, 4, tzinfo=PARIS)),
        (timedelta, OwnTimedelta(days=1, microseconds=1), timedelta(days=1, microseconds=1)),
        (Decimal, OwnDecimal("1.50"), Decimal("1.50")),
        (list[str], [SafeString("<b>")], ["<b>"]),
        (list[float], [np.float32(0.5)], [0.5]),
        (dict[str, str], {SafeString("a"): Markup("b")}, {"a": "b"}),
        (dict[int, int], {np.int64(1): OwnInt(2)}, {1: 2}),
        (
            dict[datetime, int],
            {OwnDatetime(2026, 9, 21, tzinfo=UTC): 1},
            {datetime(2026, 9, 21, tzinfo=UTC): 1},
        ),
        (Address, Address(SafeString("x")), Address("x")),
        (Cat, Cat(name=SafeString("x")), Cat(name="x")),
        (Any, SafeString("<b>"), "<b>"),
        (Any, {"a": [np.int64(5), np.float64(0.5)]}, {"a": [5, 0.5]}),
        (Sequence[int], (1, 2), [1, 2]),
        (Collection[int], {1}, [1]),
        (Mapping[str, date], {"a": DAY}, {"a": DAY}),
    ],
)
def test_value_of_a_subclass_arrives_as_its_base(
    hint: object, value: object, arrives: object
) -> None:
    arrived = travel(taking(hint), value).kwargs["it"]

    assert meaning(arrived) == meaning(arrives)
    assert type(arrived) is type(arrives)


@pytest.mark.parametrize(
    ("hint", "around"),
    [
        (set[int], lambda numbers: numbers),
        (frozenset[int], frozenset),
        (Collection[int], lambda numbers: numbers),
        (list[set[int]], lambda numbers: [numbers]),
        (tuple[set[int], int], lambda numbers: (numbers, 1)),
        (dict[str, set[int]], lambda numbers: {"b": numbers, "a": {1}}),
        (set[tuple[int, str]], lambda numbers: {(it, "x") for it in numbers}),
        (Numbered, lambda numbers: Numbered(frozenset(numbers))),
        (RenamedNumbers, RenamedNumbers),
        (ListedNumbers, ListedNumbers),
        (RootNumbers, RootNumbers),
        (list[Numbers], lambda numbers: [Numbers(inner={"b": [numbers], "a": []})]),
    ],
)
def test_equal_sets_travel_alike(hint: object, around: Callable[[set[int]], object]) -> None:
    one, other = {0, 8}, {8, 0}  # equal, in another order, as sets of text are in each process
    assert list(one) != list(other)

    arguments = taking(hint)

    sent = msgspec.json.encode(arguments.encode((around(one),), {}))
    assert msgspec.json.encode(arguments.encode((around(other),), {})) == sent
    assert b"0,8" in sent or b'[0,"x"],[8,"x"]' in sent


def test_order_of_a_dict_arrives() -> None:
    arrived = travel(taking(dict[str, int]), {"b": 1, "a": 2}).kwargs["it"]

    assert list(arrived) == ["b", "a"]  # type: ignore[call-overload]


def test_value_of_a_stopped_clock_travels() -> None:
    with freezegun.freeze_time("2027-10-31T00:30:00Z"):
        now, today = datetime.now(UTC), date.today()

        assert travel(taking(datetime), now).kwargs == {"it": now}
        assert travel(taking(date), today).kwargs == {"it": today}


def test_hint_that_is_read_while_the_clock_is_stopped_means_the_real_class() -> None:
    def function(at: datetime, days: list[date]) -> None: ...

    with freezegun.freeze_time("2027-10-31T00:30:00Z"):
        arguments = Arguments(function)
        arguments.check()

    assert travel(arguments, TWICE, [DAY]).kwargs == {"at": TWICE.astimezone(), "days": [DAY]}


@dataclass
class Untyped:
    value: Any
    inside: list[Untyped]


class UntypedTuple(NamedTuple):
    number: int
    value: Any


class UntypedDict(TypedDict):
    value: Any


class UntypedStruct(msgspec.Struct, rename="camel"):
    value: Any


class UntypedModel(pydantic.BaseModel, extra="allow"):
    value: Any = None
    inside: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (
            UntypedModel,
            UntypedModel.model_validate({"value": [1], "inside": {"a": [2]}, "more": [3]}),
        ),
        (Untyped, Untyped(None, [])),
        (dict[str, Any], {"a": [1, {"b": None}], "c": "text", "d": 0.5}),
        (list, [1, "a", [None]]),
        (tuple, (1, [2])),
        (Any | None, {"a": [1]}),
        (Untyped, Untyped({"a": [1]}, [Untyped(None, [])])),
        (UntypedTuple, UntypedTuple(1, [2])),
        (UntypedDict, {"value": [2]}),
        (list[UntypedStruct], [UntypedStruct([2])]),
    ],
)
def test_plain_value_arrives_where_the_type_says_nothing(hint: object, value: object) -> None:
    assert travel(taking(hint), value).kwargs == {"it": value}


REFUSED: list[tuple[object, object, str]] = [
    (int, "1", "Expected `int`, got `str`"),
    (int, True, "Expected `int`, got `bool`"),
    (int, 1.5, "Expected `int`, got `float`"),
    (str, 1, "Expected `str`, got `int`"),
    (str, "\ud800", "surrogates not allowed"),
    (float, float("nan"), "JSON has no nan; give a finite number or None"),
    (float | None, float("nan"), "JSON has no nan"),
    (
        list[float],
        [1.0, float("-inf")],
        "JSON has no -inf; give a finite number or None - at `$[1]`",
    ),
    (dict[str, Any], {"a": [None, np.float32("nan")]}, "JSON has no nan; give a finite number or"),
    (Untyped, Untyped(float("nan"), []), "give a finite number or None - at `$.value`"),
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
    (Any, Connection(), "values of Connection cannot be encoded as JSON"),
    (Any, (1, 2), "(1, 2) would arrive as [1, 2]"),
    (Any, {1: 2}, "would arrive as"),
    (Any, datetime(2026, 1, 1, tzinfo=UTC), "would arrive as '2026-01-01T00:00:00Z'"),
    (Any, float("inf"), "JSON has no inf"),
    (Any, {"a": {1j}}, "complex"),
    (datetime, datetime(2026, 1, 1, tzinfo=NoOffset()), "has no time zone"),
    (time, time(2, 30, tzinfo=BERLIN), "would arrive as datetime.time(2, 30)"),
    (date, np.datetime64("2026-01-01"), "values of datetime64 cannot be encoded as JSON"),
    (float, np.longdouble(1), "values of longdouble cannot be encoded as JSON"),
    (list[int], np.array([1]), "values of ndarray cannot be encoded as JSON"),
    (Any, Color.RED, "would arrive as 'red'"),
    (Any, {1}, "{1} would arrive as [1]"),
    # Parts of a type that say nothing about the values inside.
    (dict[str, Any], {"a": (1,)}, "(1,) would arrive as [1] - at `$.a`"),
    (dict[str, Any], {"a": {1}}, "{1} would arrive as [1] - at `$.a`"),
    (dict[str, Any], {"a": [Color.RED]}, "would arrive as 'red' - at `$.a[0]`"),
    (dict[str, Any], {"a": Event(TWICE)}, "would arrive as {'at': "),
    (dict[str, Any] | None, {"a": (1,)}, "(1,) would arrive as [1] - at `$.a`"),
    (Any | None, (1,), "(1,) would arrive as [1]"),
    (Annotated[list[Any], "any"], [(1,)], "(1,) would arrive as [1] - at `$[0]`"),
    (dict, {"a": (1,)}, "(1,) would arrive as [1] - at `$.a`"),
    (list, [[(1,)]], "(1,) would arrive as [1] - at `$[0][0]`"),
    (tuple, ((1,),), "(1,) would arrive as [1] - at `$[0]`"),
    (Sequence[Any], (1, (2,)), "(2,) would arrive as [2] - at `$[1]`"),
    (tuple[int, Any], (1, (2,)), "(2,) would arrive as [2] - at `$[1]`"),
    (Untyped, Untyped({"a": (1,)}, []), "(1,) would arrive as [1] - at `$.value.a`"),
    (Untyped, Untyped(1, [Untyped({1}, [])]), "{1} would arrive as [1] - at `$.inside[0].value`"),
    (UntypedTuple, UntypedTuple(1, (2,)), "(2,) would arrive as [2] - at `$[1]`"),
    (UntypedDict, {"value": (2,)}, "(2,) would arrive as [2] - at `$.value`"),
    (list[UntypedStruct], [UntypedStruct((2,))], "(2,) would arrive as [2] - at `$[0].value`"),
    (UntypedModel, UntypedModel(value=(1,)), "(1,) would arrive as [1] - at `$.value`"),
    (
        UntypedModel,
        UntypedModel.model_validate({"more": (1,)}),
        "(1,) would arrive as [1] - at `$.more`",
    ),
    (
        list[UntypedModel],
        [UntypedModel(inside={"a": (1,)})],
        "(1,) would arrive as [1] - at `$[0].inside.a`",
    ),
    (UntypedModel | int, UntypedModel(value={1}), "{1} would arrive as [1] - at `$.value`"),
    (Account, Account(name="a", password="x"), "'x' would arrive as '' - at `$.password`"),
    (
        Account,
        Account(name="a", price=Decimal("1.255")),
        "would arrive as Decimal('1.26') - at `$.price`",
    ),
    (Account, Administrator(name="a"), "would arrive as Account("),
    (Team, Team(members=[Administrator(name="a")]), "at `$.members[0]`"),
    (Swapped, Swapped(b=1, a=2), "1 would arrive as 2 - at `$.a`"),
    (Circle | Square, Square(size=1), "Square(size=1) would arrive as Circle(size=1)"),
    (Cat | Dog, Puppy(name="Rex"), "Puppy(kind='dog', name='Rex') would arrive as Dog("),
    (Event, Vip(TWICE, table=1), "would arrive as Event("),
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


def test_private_attribute_is_refused_unless_it_arrives_the_same() -> None:
    account = Account(name="a")
    account._token = "secret"

    with pytest.raises(ArgumentError, match=r"'secret' would arrive as '' - at `\$\._token`"):
        taking(Account).encode((account,), {})


def test_model_may_arrive_by_its_aliases() -> None:
    body = b'{"it": {"alias": 1, "in": 2, "written": 3, "b_in": 4, "list": [5]}}'

    assert taking(Aliases).decode(body).kwargs["it"].by_alias == 1  # type: ignore[attr-defined]


def test_value_without_an_end_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(ArgumentError, match="argument it: it is nested more than 63 levels deep"):
        taking(Any).encode((endless,), {})


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
        ((), {}, "a", "it is required"),
        ((1,), {"z": 1}, "z", "the task has no such argument"),
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
    with pytest.raises(
        ArgumentError,
        match="argument a: it is positional-only; pass it by position",
    ):
        Arguments(everything).encode((1,), {"a": 2})


@pytest.mark.parametrize(
    ("body", "argument", "reason"),
    [
        (b"{}", "user_id", "it is required"),
        (b'{"user_id": "x"}', "user_id", "Expected `int`, got `str`"),
        (b'{"user": 1}', "user_id", "it is required"),
        (b'{"user_id": 1, "user": 1}', "user", "the handler has no such argument"),
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
    with pytest.raises(
        ArgumentError, match="db: it is injected where the task runs; leave it out"
    ):
        arguments.encode((1,), {"db": 1})
    with pytest.raises(
        ArgumentError, match="db: it is injected where the task runs; leave it out"
    ):
        arguments.decode(b'{"a": 1, "db": 1}')


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (Connection, "values of Connection cannot be encoded as JSON"),
        (SafeString, "values of SafeString cannot be encoded as JSON; annotate it as str"),
        (np.float64, "values of float64 cannot be encoded as JSON; annotate it as float"),
        (np.int64, "values of int64 cannot be encoded as JSON"),
        (OwnDatetime, "values of OwnDatetime cannot be encoded as JSON; annotate it as datetime"),
        (Address | dict[str, int], "Type unions may not contain more than one"),
        (FloatEnum, "FloatEnum"),
        (FloatMixin, "FloatMixin"),
        (TupleEnum, "TupleEnum"),
        (MixedEnum, "MixedEnum"),
        (BoolEnum, "BoolEnum"),
        (Cat | Person, "Person"),
    ],
)
def test_type_that_is_sure_to_fail_is_refused_at_the_definition(hint: object, reason: str) -> None:
    with pytest.raises(DefinitionError, match="argument it: ") as refusal:
        taking(hint).check()

    assert reason in str(refusal.value)


def test_type_that_some_values_travel_as_is_not_refused_at_the_definition() -> None:
    def function(
        a: list[Connection], b: Connection | None, c: Order, d: Connection = NOTHING
    ) -> None: ...

    Arguments(function).check()


def test_type_that_is_not_known_is_named() -> None:
    def function(a: Unheard) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(UnknownType, match="name 'Unheard' is not defined"):
        Arguments(function)


def test_refused_push_names_its_task() -> None:
    tasks = make_tasks()

    @tasks.task(name="app.send")
    def send(user_id: int) -> None: ...

    loose: Any = send
    for push, message in (
        (loose.push, "task app.send: argument user_id: it is required"),
        (lambda: loose.push(1, 2), "task app.send: too many positional arguments"),
        (lambda: loose.push("x"), "task app.send: argument user_id: Expected `int`, got `str`"),
        (lambda: loose.options(priority="x"), "task app.send: priority='x' is not allowed: "),
    ):
        with pytest.raises(ArgumentError) as refused:
            push()
        assert str(refused.value).startswith(message)
