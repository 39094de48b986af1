"""Checks the arguments of public functions against their annotations.

Only the outermost type is checked: the server, or the function, checks the values inside.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property, wraps
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

from poussetaches.client.arguments import ArgumentError
from poussetaches.client.durations import Seconds

P = ParamSpec("P")
R = TypeVar("R")

HIDDEN = frozenset({"token", "auth_key", "signing_secrets"})  # never shown
DURATION = "a number of seconds that is not negative, or a timedelta"
_WORDS: Mapping[object, str] = {
    str: "a str",
    bytes: "bytes",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    Mapping: "a dict",
    Sequence: "a list",
    Iterable: "a list, or another iterable",
}
_IGNORED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_duration(name: str, value: object) -> None:
    """Check a duration.

    Raises:
        ArgumentError: it is neither a number of seconds nor a timedelta, or it is negative.
    """
    _check(name, value, (_KindOfValue(DURATION, _is_duration),))


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that checks its arguments first.

    Raises:
        ArgumentError: at a call, an argument has another type than its annotation.
    """
    check = ArgumentTypes(function).check

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check(args, kwargs)
        return function(*args, **kwargs)

    return call


class ArgumentTypes:
    """The types of a function's arguments. The annotations are read at the first call."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def check(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Check the arguments of a call.

        Raises:
            ArgumentError: one has another type than its annotation; the error names it.
        """
        kinds = self._kinds
        for name, value in (*zip(self._names, args, strict=False), *kwargs.items()):
            if allowed := kinds.get(name):
                _check(name, value, allowed)

    @cached_property
    def _names(self) -> list[str]:
        return list(inspect.signature(self._function).parameters)

    @cached_property
    def _kinds(self) -> Mapping[str, tuple[_KindOfValue, ...]]:
        parameters = inspect.signature(self._function).parameters
        hints = typing.get_type_hints(self._function)
        return {
            name: kinds
            for name, hint in hints.items()
            if name in parameters
            and parameters[name].kind not in _IGNORED
            and (kinds := _kinds_of(hint))
        }


class _KindOfValue(NamedTuple):
    """Values that an argument may have, and their name in messages."""

    words: str
    includes: Callable[[object], bool]


def _check(name: str, value: object, allowed: Sequence[_KindOfValue]) -> None:
    if any(kind.includes(value) for kind in allowed):
        return
    shown = f"a {type(value).__name__}" if name in HIDDEN else repr(value)
    words = " or ".join(kind.words for kind in allowed)
    raise ArgumentError(name, f"{shown} is not allowed; use {words}")


def _kinds_of(hint: object) -> tuple[_KindOfValue, ...]:
    """Return the kinds of values of an annotation; none if they cannot be checked."""
    if hint in (Seconds, Seconds | None):
        kinds: tuple[_KindOfValue, ...] = (_KindOfValue(DURATION, _is_duration),)
        return kinds if hint == Seconds else (*kinds, _NONE)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [_kinds_of(part) for part in typing.get_args(hint)]
        return tuple(kind for part in parts for kind in part) if all(parts) else ()
    kind = _kind_of(hint)
    return () if kind is None else (kind,)


def _kind_of(hint: object) -> _KindOfValue | None:
    if hint is type(None):
        return _NONE
    if typing.get_origin(hint) is Literal:
        values = typing.get_args(hint)
        words = " or ".join(map(repr, values))
        return _KindOfValue(words, lambda it: isinstance(it, str) and it in values)
    kind = Mapping if typing.is_typeddict(hint) else typing.get_origin(hint) or hint
    if kind not in _WORDS:
        return None
    return _KindOfValue(_WORDS[kind], lambda it: _is_instance(it, typing.cast("type", kind)))


_NONE = _KindOfValue("None", lambda it: it is None)


def _is_instance(value: object, kind: type[Any]) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind in (Sequence, Iterable) and isinstance(value, str | bytes):
        return False  # its letters are never meant
    return isinstance(value, int | float if kind is float else kind)


def _is_duration(value: object) -> bool:
    if isinstance(value, timedelta):
        return value >= timedelta(0)
    return (
        _is_instance(value, float)
        and not math.isnan(typing.cast("float", value))
        and (typing.cast("float", value) >= 0)
    )
