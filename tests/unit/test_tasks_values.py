"""Arguments: a value arrives equal and of its own class, or is refused by its path."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import GenericAlias
from typing import Annotated, Any, Generic, NamedTuple, NewType, TypeVar, Union
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict

from poussetaches.client.arguments import ArgumentError, Arguments
from poussetaches.client.codec import CodecError, encode_json
from tests.effort import examples

PARIS = timezone(timedelta(hours=2))


class Color(enum.Enum):
    RED = "red"


class Paint(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    ONE = 1


class OwnUUID(UUID): ...


class Refund(pydantic.BaseModel):
    order: int


class Price(pydantic.BaseModel):
    order: float


class Anything(pydantic.BaseModel):
    order: Any = None


class Renamed(pydantic.BaseModel):
    """An extra field may have the name that ``a`` is sent by."""

    model_config = pydantic.ConfigDict(extra="allow")
    a: int = pydantic.Field(alias="b")


class Hidden(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    _token: int = pydantic.PrivateAttr(0)


class Nested(pydantic.BaseModel):
    inner: list[Refund | int] = []
    by_name: dict[str, bool | float] = {}


class Tree(pydantic.BaseModel):
    inner: Tree | None = None


class Root(pydantic.RootModel[list[int]]): ...


class Utc(pydantic.BaseModel):
    at: datetime

    @pydantic.field_serializer("at")
    def in_utc(self, at: datetime) -> datetime:
        return at.astimezone(UTC)


class Queued(pydantic.BaseModel):
    items: deque[int]
    by_name: defaultdict[str, int]
    counts: Counter[str] = Counter()


Item = TypeVar("Item")


class Page(pydantic.BaseModel, Generic[Item]):
    items: list[Item]


@dataclass
class Point:
    order: int


@dataclass
class NamedPoint(Point): ...


@dataclass
class Tagged:
    exact: list[int]
    tags: Sequence[int]


@dataclass
class Box(Generic[Item]):
    content: Item


class Struct(msgspec.Struct):
    order: int


class Pair(NamedTuple):
    left: int
    right: int = 0


class Order(TypedDict):
    order: int


@dataclass(frozen=True)
class Noted:
    notes: dict[str, int]

    def __hash__(self) -> int:
        return 1


Tags = NewType("Tags", Sequence[int])


def taking(hint: object) -> Arguments:
    """Return the arguments of a function with one of this type."""

    def function(it: object) -> None:
        del it

    function.__annotations__["it"] = hint
    return Arguments(function)


def arrival(hint: object, value: object) -> object:
    """Return a value as it arrives.

    Raises:
        ArgumentError: it is refused at the push.
    """
    arguments = taking(hint)
    return arguments.decode(msgspec.json.encode(arguments.encode((value,), {}))).kwargs["it"]


def are_same(sent: object, arrived: object) -> bool:
    """Return whether two values are equal and of the same classes, inside and out.

    An integer may arrive as a wider number.
    """
    if type(sent) is int and type(arrived) in {float, Decimal}:
        return sent == arrived
    if type(sent) is not type(arrived):
        return False
    match sent:
        case dict():
            assert isinstance(arrived, dict)
            return are_same(list(sent.items()), list(arrived.items()))
        case list() | tuple():
            assert isinstance(arrived, list | tuple)
            return len(sent) == len(arrived) and all(map(are_same, sent, arrived))
        case set() | frozenset():
            assert isinstance(arrived, set | frozenset)
            return len(sent) == len(arrived) and all(
                any(are_same(it, other) for other in arrived) for it in sent
            )
    inside = inside_of(sent)
    return sent == arrived if inside is None else are_same(inside, inside_of(arrived))


def inside_of(value: object) -> list[object] | None:
    """Return what an object consists of."""
    if isinstance(value, pydantic.BaseModel):
        return [
            {name: vars(value).get(name) for name in type(value).model_fields},
            value.__pydantic_extra__,
            value.__pydantic_private__,
        ]
    if is_dataclass(value):
        return [getattr(value, it.name) for it in fields(value)]
    if isinstance(value, msgspec.Struct):
        return list(msgspec.structs.astuple(value))
    return None


SCALARS: st.SearchStrategy[Any] = (
    st.sampled_from([None, True, False, 0, 1, 5, 0.0, 1.0, 5.0, 0.5, "", "1", "5", "true", "red"])
    | st.sampled_from([Decimal(1), date(2026, 1, 1), "2026-01-01", UUID(int=1), str(UUID(int=1))])
    | st.sampled_from([Color.RED, Paint.RED, Level.ONE, b"1", "MQ=="])
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for objects that may have any value, which they do not check."""
    return st.one_of(
        inner.map(Point),
        inner.map(Struct),
        inner.map(lambda it: Refund.model_construct(order=it)),
        inner.map(lambda it: Price.model_construct(order=it)),
        inner.map(lambda it: Anything.model_construct(order=it)),
        inner.map(lambda it: Nested.model_construct(inner=[it])),
        inner.map(lambda it: Nested.model_construct(by_name={"a": it})),
        st.builds(
            Renamed.model_validate,
            st.fixed_dictionaries({"b": st.just(1)}, optional={"a": inner, "c": inner}),
        ),
        st.builds(Pair, inner, inner),
    )


VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | objects(SCALARS),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from(["order", "a", "b"]), inner, max_size=2)
        | st.dictionaries(st.sampled_from([1, 1.0, "1", Color.RED]), inner, max_size=2)
        | st.sets(st.sampled_from([1, True, 1.0, "1", (1,), (True,), Color.RED]), max_size=2)
        | objects(inner)
    ),
    max_leaves=4,
)
MODELS = st.sampled_from([Refund, Price, Anything, Renamed, Nested, Page[int], Root])
OTHERS = st.sampled_from(
    [
        *(int, float, bool, str, bytes, Decimal, date, UUID, Color, Level, Point, Pair, Order),
        *(Any, dict[str, int], dict[int, Any], dict[str, Any], list[int], list[Any], None),
        *(tuple[int, ...], tuple[int, float], set[int], set[float], frozenset[str]),
    ]
)


def unions(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for unions of a model and other types."""
    members = st.tuples(MODELS, inner) | st.tuples(MODELS, inner, inner)
    return members.map(lambda it: Union[it])  # noqa: UP007  # of a tuple


Pairs = st.SearchStrategy[tuple[Any, Any]]
HINTS = unions(OTHERS | MODELS) | OTHERS | MODELS | st.just(Struct)


def around(pairs: Pairs) -> Pairs:
    """Return a strategy for a type and a value within the same containers."""
    return (
        pairs.map(lambda it: (GenericAlias(list, (it[0],)), [it[1]]))
        | pairs.map(lambda it: (GenericAlias(dict, (str, it[0])), {"a": it[1]}))
        | pairs.map(lambda it: (GenericAlias(tuple, (it[0], ...)), (it[1],)))
        | pairs.map(lambda it: (GenericAlias(Box, (it[0],)), Box(it[1])))
    )


@settings(max_examples=examples(500))
@given(pair=st.recursive(st.tuples(HINTS, VALUES), around, max_leaves=1))
def test_value_arrives_the_same_or_is_refused(pair: tuple[object, object]) -> None:
    hint, value = pair
    taking(hint).check()
    try:
        arrived = arrival(hint, value)
    except ArgumentError as refusal:
        assert refusal.argument == "it"
        return

    assert are_same(value, arrived)


INTEGERS = st.integers()
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
REFUNDS = st.builds(Refund, order=INTEGERS)
POINTS = st.builds(Point, order=INTEGERS)


@pytest.mark.parametrize(
    ("hint", "values"),
    [
        (Refund | int | float | bool | str | None, st.one_of(INTEGERS, FLOATS, REFUNDS)),
        (Refund | int | float | bool | str | None, st.none() | st.booleans() | st.text()),
        (Refund | bool, st.booleans() | REFUNDS),
        (Refund | list[int | float], st.lists(INTEGERS | FLOATS) | REFUNDS),
        (list[Refund | bool | None], st.lists(REFUNDS | st.booleans() | st.none())),
        (dict[str, list[Refund | str]], st.dictionaries(st.text(), st.lists(REFUNDS | st.text()))),
        (tuple[Refund | int, ...], st.lists(REFUNDS | INTEGERS).map(tuple)),
        (Refund | dict[str, str], st.dictionaries(st.text(), st.just("a"))),
        (Refund | set[int] | str, st.sets(INTEGERS)),
        (Refund | tuple[int, str], st.tuples(INTEGERS, st.text())),
        (Refund | Page[int], st.builds(Page[int], items=st.lists(INTEGERS)) | REFUNDS),
        (bool | int | float | None, st.booleans() | INTEGERS | FLOATS | st.none()),
        (dict[str, bool | int], st.dictionaries(st.text(), st.booleans() | INTEGERS)),
        (dict[str, dict[int, set[float]]], st.fixed_dictionaries({"a": st.just({1: {0.5}})})),
        (list[Point | int], st.lists(POINTS | INTEGERS)),
        (Nested, st.builds(Nested, inner=st.lists(REFUNDS | INTEGERS))),
        (Anything, st.builds(Anything, order=st.booleans() | FLOATS | st.lists(INTEGERS))),
        (Any, st.lists(st.booleans() | INTEGERS | FLOATS)),
    ],
    ids=str,
)
@given(data=st.data())
def test_value_of_a_member_of_a_union_arrives_the_same(
    hint: object, values: st.SearchStrategy[object], data: st.DataObject
) -> None:
    value = data.draw(values)

    assert are_same(value, arrival(hint, value))


WITHIN: list[tuple[str, Callable[[Any], object], Callable[[Any], object]]] = [
    ("", lambda hint: hint, lambda value: value),
    ("[1]", lambda hint: list[hint | None], lambda value: [None, value]),  # type: ignore[valid-type]
    (".a", lambda hint: dict[str, hint], lambda value: {"a": value}),  # type: ignore[valid-type]
    (".content", lambda hint: Box[hint], Box),  # type: ignore[valid-type]
]


@pytest.mark.parametrize(("path", "hint_around", "around"), WITHIN, ids=[it[0] for it in WITHIN])
@pytest.mark.parametrize(
    ("hint", "value", "reason"),
    [
        # A value of a union, which arrives as another member.
        (Refund | dict[str, int], {"order": 1}, "{'order': 1} would arrive as Refund(order=1)"),
        (Refund | int, True, "True would arrive as 1"),
        (Refund | int, 5.0, "5.0 would arrive as 5"),
        (Refund | int, "5", "'5' would arrive as 5"),
        (Refund | Any, (1, 2), "(1, 2) would arrive as [1, 2]"),
        (Refund | list[int], [1, True], "True would arrive as 1"),
        (Refund | set[int], {True}, "True would arrive as 1"),
        (Refund | dict[int, int], {1.0: 1}, "the key 1.0 would arrive as 1"),
        # What a model does not check.
        (Refund, Refund.model_construct(order=True), "True would arrive as 1"),
        (Price, Price.model_construct(order=True), "True would arrive as 1.0"),
        (Nested, Nested.model_construct(inner=[True]), "True would arrive as 1"),
        (Nested, Nested.model_construct(inner=[{"order": 1}]), "would arrive as Refund(order=1)"),
        (Renamed, Renamed.model_validate({"b": 1, "a": 5}), "1 would arrive as 5"),
        (Renamed, Renamed.model_validate({"b": 5, "a": 5}), "5 would arrive as nothing"),
        (Renamed, Renamed.model_validate({"b": 1, "c": (1,)}), "(1,) would arrive as [1]"),
        # Objects of different classes with the same JSON.
        (dict[str, int], Point(1), "Point(order=1) would arrive as {'order': 1}"),
        (dict[str, int], Struct(1), "Struct(order=1) would arrive as {'order': 1}"),
        (dict[str, int], Refund(order=1), "Refund(order=1) would arrive as {'order': 1}"),
        (Order, Point(1), "Point(order=1) would arrive as {'order': 1}"),
        (Order, Refund(order=1), "Refund(order=1) would arrive as {'order': 1}"),
        (Refund, {"order": 1}, "{'order': 1} would arrive as Refund(order=1)"),
        (Point, {"order": 1}, "{'order': 1} would arrive as Point(order=1)"),
        (Struct, {"order": 1}, "{'order': 1} would arrive as Struct(order=1)"),
        (Struct, Point(1), "Point(order=1) would arrive as Struct(order=1)"),
        (Refund, Point(1), "Point(order=1) would arrive as Refund(order=1)"),
        (Point, NamedPoint(1), "NamedPoint(order=1) would arrive as Point(order=1)"),
        (Root, [1], "[1] would arrive as Root(root=[1])"),
        (list[int], Root([1]), "Root(root=[1]) would arrive as [1]"),
        # Collections of another class.
        (list[int], (1, 2), "(1, 2) would arrive as [1, 2]"),
        (list[int], {1}, "{1} would arrive as [1]"),
        (list[int], Pair(1, 2), "Pair(left=1, right=2) would arrive as [1, 2]"),
        (tuple[int, ...], [1], "[1] would arrive as (1,)"),
        (Pair, (1, 2), "(1, 2) would arrive as Pair(left=1, right=2)"),
        (set[int], frozenset({1}), "frozenset({1}) would arrive as {1}"),
        (Sequence[int], {1}, "{1} would arrive as [1]"),
        (tuple[Sequence[int], list[int]], ((1,), (2,)), "(2,) would arrive as [2]"),
        (Tagged, Tagged(exact=(1,), tags=(2,)), "(1,) would arrive as [1]"),  # type: ignore[arg-type]
        (Queued, Queued.model_construct(items=[1], by_name={}), "[1] would arrive as deque([1])"),
        # Scalars of another class.
        (str, Color.RED, "<Color.RED: 'red'> would arrive as 'red'"),
        (dict[str, int], {Color.RED: 1}, "the key <Color.RED: 'red'> would arrive as 'red'"),
        (Paint, Color.RED, "<Color.RED: 'red'> would arrive as <Paint.RED: 'red'>"),
        (Color, "red", "'red' would arrive as <Color.RED: 'red'>"),
        (Level, 1, "1 would arrive as <Level.ONE: 1>"),
        (bytearray, b"x", "b'x' would arrive as bytearray(b'x')"),
        (float, 2**53 + 1, "would arrive as 9007199254740992.0"),
        (Any, {1: 2}, "the key 1 would arrive as '1'"),
        (
            Utc,
            Utc(at=datetime(2026, 1, 1, tzinfo=PARIS)),
            "would arrive as datetime",
        ),
        (datetime, datetime(2026, 1, 1), "2026-01-01 00:00:00 has no time zone"),
    ],
    ids=str,
)
def test_value_that_would_change_is_refused_with_its_path(
    path: str,
    hint_around: Callable[[object], object],
    around: Callable[[object], object],
    *,
    hint: object,
    value: object,
    reason: str,
) -> None:
    with pytest.raises(ArgumentError) as refusal:
        taking(hint_around(hint)).encode((around(value),), {})

    assert refusal.value.argument == "it"
    assert reason in refusal.value.reason
    assert f"at `${path}" in refusal.value.reason or not path


@pytest.mark.parametrize(
    ("hint", "value", "arrives"),
    [
        (float, 5, 5.0),
        (Decimal, 5, Decimal(5)),
        (set[float], {1}, {1.0}),
        (dict[float, str], {1: "a"}, {1.0: "a"}),
        (Price, Price.model_construct(order=5), Price(order=5.0)),
        (bytes, bytearray(b"x"), b"x"),
        (bytes, memoryview(b"x"), b"x"),
        (UUID, OwnUUID(int=1), UUID(int=1)),
        (dict[str, int], OrderedDict(a=1), {"a": 1}),
        (dict[str, int], defaultdict(int, a=1), {"a": 1}),
        (tuple[int, int], Pair(1, 2), (1, 2)),
        (Any, Level.ONE, 1),
        (int, Level.ONE, 1),
        # Abstract types, wherever they are in a hint.
        (Sequence[int], (1, 2), [1, 2]),
        (Sequence[int], Pair(1, 2), [1, 2]),
        (Collection[int], {1, 2}, [1, 2]),
        (AbstractSet[int], frozenset({1}), {1}),
        (Sequence[int] | None, (1,), [1]),
        (Annotated[Sequence[int], "numbers"], (1,), [1]),
        (Tags, (1,), [1]),
        (Mapping[str, Sequence[int]], {"a": (1,)}, {"a": [1]}),
        (Refund | Sequence[int], (1,), [1]),
        (Sequence[Sequence[int]], ((1,), [2]), [[1], [2]]),
        (tuple[int, Sequence[int]], (1, (2,)), (1, [2])),
        (Tagged, Tagged(exact=[1], tags=(2,)), Tagged(exact=[1], tags=[2])),
        (Box[Sequence[int]], Box((1,)), Box([1])),
        (Page[Sequence[int]], Page(items=[(1,)]), Page[Sequence[int]](items=[[1]])),
    ],
)
def test_value_arrives_as_the_table_says(hint: object, value: object, arrives: object) -> None:
    arrived = arrival(hint, value)

    assert are_same(arrives, arrived)
    assert type(arrived) is type(arrives)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Queued, Queued(items=deque([1]), by_name=defaultdict(int, a=1), counts=Counter("aab"))),
        (Page[int], Page[int](items=[1])),
        (Page, Page[int](items=[1])),
        (Renamed, Renamed.model_validate({"b": 1, "c": 5})),
        (Hidden, Hidden.model_validate({"_token": 5})),
        (Order, {"order": 1}),
        (set[Noted], {Noted({"a": 1}), Noted({"a": 2})}),
        (list[Refund | dict[str, str]], [Refund(order=1), {"order": "many"}]),
    ],
    ids=str,
)
def test_value_of_a_class_arrives_equal(hint: object, value: object) -> None:
    assert arrival(hint, value) == value


def nested(depth: int) -> list[object]:
    """Return lists within each other."""
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def tree(depth: int) -> Tree:
    """Return models within each other."""
    value = Tree()
    for _ in range(depth - 1):
        value = Tree.model_construct(inner=value)
    return value


def many(*items: Any) -> None: ...


@pytest.mark.parametrize(("hint", "make"), [(Any, nested), (list, nested), (Tree, tree)])
def test_argument_may_be_nested_63_deep(hint: object, make: Callable[[int], object]) -> None:
    assert arrival(hint, make(63)) == make(63)
    assert Arguments(many).encode((nested(62),), {}) == {"*items": [nested(62)]}


@pytest.mark.parametrize("depth", [64, 300, 600, 100_000])
@pytest.mark.parametrize(("hint", "make"), [(Any, nested), (list, nested), (Tree, tree)])
def test_argument_that_is_nested_deeper_is_refused_with_the_limit(
    hint: object, make: Callable[[int], object], depth: int
) -> None:
    with pytest.raises(ArgumentError) as refusal:
        taking(hint).encode((make(depth),), {})

    assert str(refusal.value) == "argument it: it is nested more than 63 levels deep, the maximum"


def test_each_of_variable_arguments_may_be_nested_62_deep() -> None:
    with pytest.raises(
        ArgumentError, match="argument items: it is nested more than 62 levels deep"
    ):
        Arguments(many).encode((nested(63),), {})


@pytest.mark.parametrize("depth", [65, 600, 5_000, 100_000])
@pytest.mark.parametrize("name", [b"it", b"*items"])
def test_body_that_is_nested_deeper_is_refused_on_arrival(name: bytes, depth: int) -> None:
    body = b'{"%s": %s%s}' % (name, b"[" * (depth - 1), b"]" * (depth - 1))

    with pytest.raises(ArgumentError, match="the body is nested more than 64 levels deep"):
        Arguments(many).decode(body)


def test_result_that_is_nested_too_deeply_has_no_json() -> None:
    with pytest.raises(CodecError, match="The value is nested too deeply"):
        encode_json(nested(100_000))
