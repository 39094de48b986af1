"""Arguments of the wrong type are refused by their name, with the types that are allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import pytest

from poussetaches.client.argument_types import checked
from poussetaches.client.arguments import ArgumentError
from poussetaches.client.client import AsyncClient, Client
from poussetaches.client.durations import Seconds
from poussetaches.client.request_fields import Filter

URL = "http://127.0.0.1:9"
CLIENT: Any = Client(URL)
ASYNC_CLIENT: Any = AsyncClient(URL)
DURATION = "a number of seconds that is not negative, or a timedelta"


@checked
def call(
    text: str = "",
    /,
    number: int = 0,
    ratio: float = 0.0,
    *,
    flag: bool = False,
    within: Seconds | None = None,
    state: Literal["dead", "failing"] = "dead",
    items: Sequence[str] = (),
    each: Iterable[object] = (),
    filter: Filter | None = None,
    headers: Mapping[str, str] | None = None,
    function: Callable[[], None] | None = None,
    token: str | None = None,
    **others: int,
) -> object:
    return locals()


loose: Any = call


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("x", 5, 1), {"flag": True, "within": 1.5, "state": "failing"}),
        ((), {"within": timedelta(0), "items": [1], "each": {"a": 1}, "filter": {"state": 7}}),
        ((), {"within": float("inf"), "headers": {}, "function": 5, "others": "x", "more": "y"}),
    ],
)
def test_arguments_of_their_types_are_passed_on(
    args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    loose(*args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((5,), {}, "argument text: 5 is not allowed; use a str"),
        ((b"x",), {}, "argument text: b'x' is not allowed; use a str"),
        (("", True), {}, "argument number: True is not allowed; use a whole number"),
        ((), {"ratio": "1"}, "argument ratio: '1' is not allowed; use a number"),
        ((), {"flag": 1}, "argument flag: 1 is not allowed; use True or False"),
        ((), {"within": "1"}, f"argument within: '1' is not allowed; use {DURATION} or None"),
        ((), {"within": -1}, f"argument within: -1 is not allowed; use {DURATION} or None"),
        ((), {"within": float("nan")}, "argument within: nan is not allowed"),
        ((), {"within": timedelta(-1)}, "argument within: datetime.timedelta(days=-1) is not"),
        ((), {"state": "x"}, "argument state: 'x' is not allowed; use 'dead' or 'failing'"),
        ((), {"items": "abc"}, "argument items: 'abc' is not allowed; use a list"),
        ((), {"each": "abc"}, "argument each: 'abc' is not allowed; use a list, or another"),
        ((), {"filter": "dead"}, "argument filter: 'dead' is not allowed; use a dict or None"),
        ((), {"token": b"secret"}, "argument token: a bytes is not allowed; use a str or None"),
    ],
)
def test_argument_of_another_type_is_refused_by_its_name(
    args: tuple[object, ...], kwargs: dict[str, object], message: str
) -> None:
    with pytest.raises(ArgumentError) as refused:
        loose(*args, **kwargs)

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("use", "name"),
    [
        (lambda: Client(5), "url"),  # type: ignore[arg-type]
        (lambda: AsyncClient(b"http"), "url"),  # type: ignore[arg-type]
        (lambda: Client(URL, timeout=None), "timeout"),  # type: ignore[arg-type]
        (lambda: CLIENT.list("dead"), "filter"),
        (lambda: ASYNC_CLIENT.list("dead"), "filter"),
        (lambda: CLIENT.push_many("/x"), "tasks"),
        (lambda: CLIENT.wait("id", timeout="x"), "timeout"),
        (lambda: CLIENT.stats("1"), "minutes"),
        (lambda: CLIENT.requeue_many([]), "filter"),
        (lambda: CLIENT.put_schedules("shop", "1", []), "version"),
    ],
)
def test_clients_check_their_arguments(use: Callable[[], object], name: str) -> None:
    with pytest.raises(ArgumentError, match=rf"^argument {name}: .* is not allowed; use "):
        use()


async def test_awaited_methods_check_their_arguments() -> None:
    with pytest.raises(ArgumentError, match=r"^argument timeout: 'x' is not allowed"):
        await ASYNC_CLIENT.wait("id", timeout="x")
