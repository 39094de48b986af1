"""The types of the values inside a value, from its type hint."""

from __future__ import annotations

import collections.abc
import functools
import typing
from collections import defaultdict
from collections.abc import Iterator

from poussetaches.client import pydantic_models

_WRAPPERS = (typing.Annotated, typing.Final, typing.Required, typing.NotRequired)
_BUILT_IN = (dict, list, tuple, set, frozenset)
_ABSTRACT = (
    collections.abc.Collection,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Set,
    collections.abc.MutableSet,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
)


class TypePart:
    """The type of a value: each member of it, if it is a union.

    Without a hint it has no members, nor have its parts.
    """

    def __init__(self, *hints: object) -> None:
        self._members = [member for hint in hints for member in _members(hint)]
        self._parts: dict[type, dict[object, TypePart]] = {}

    def at(self, kind: type, step: object) -> TypePart:
        """Return the type of the value at a field, key or index of a value of a class."""
        parts = self._parts.get(kind)
        if parts is None:
            parts = self._parts[kind] = self._parts_of(kind)
        return parts.get(step) or parts.get(_EACH, NO_TYPE)

    def is_abstract_for(self, value: object) -> bool:
        """Return whether an abstract type, such as ``Sequence``, is the type of a value."""
        return any(
            origin in _ABSTRACT and isinstance(value, origin)
            for origin in map(_class_of, self._members)
        )

    def _parts_of(self, kind: type) -> dict[object, TypePart]:
        if pydantic_models.is_model(kind):
            return {
                name: TypePart(hint) for name, hint in pydantic_models.field_hints(kind).items()
            }
        hints: defaultdict[object, list[object]] = defaultdict(list)
        for member in self._members:
            if _is_type_of(member, kind):
                for step, hint in _hints_in(member):
                    hints[step].append(hint)
        return {step: TypePart(*found) for step, found in hints.items()}


_EACH = object()  # the step to the items of a list or a set, and to the values of a dict
NO_TYPE = TypePart()


def _members(hint: object) -> Iterator[object]:
    """Yield the members of a union, or the type itself, without aliases and wrappers."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in pydantic_models.UNIONS:
        for member in arguments:
            yield from _members(member)
    elif origin in _WRAPPERS:
        yield from _members(arguments[0])
    elif isinstance(hint, typing.NewType):
        yield from _members(hint.__supertype__)
    elif hasattr(origin or hint, "__value__"):  # an alias of Python 3.12's `type` statement
        alias: typing.Any = origin or hint
        yield from _members(_filled_in(alias.__value__, alias.__type_params__, arguments))
    else:
        yield hint


def _class_of(hint: object) -> typing.Any:
    return typing.get_origin(hint) or hint


def _is_type_of(hint: object, kind: type) -> bool:
    origin = _class_of(hint)
    if hasattr(origin, "__total__"):  # a TypedDict, also one of typing_extensions
        return kind is dict
    return origin is kind or (origin in _ABSTRACT and issubclass(kind, origin))


def _hints_in(hint: object) -> Iterator[tuple[object, object]]:
    """Yield the steps to the values inside a value of a type, with their types."""
    origin, arguments = _class_of(hint), typing.get_args(hint)
    parameters = getattr(origin, "__parameters__", ())
    for place, (name, inside) in enumerate(_field_hints(origin).items()):
        is_tuple = issubclass(origin, tuple)
        yield place if is_tuple else name, _filled_in(inside, parameters, arguments)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        yield from enumerate(arguments)
    elif arguments and not parameters:
        yield _EACH, arguments[-1 if issubclass(origin, collections.abc.Mapping) else 0]


@functools.lru_cache(1024)
def _field_hints(kind: type) -> dict[str, object]:
    if kind in _BUILT_IN or kind in _ABSTRACT:
        return {}
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _filled_in(
    hint: object, parameters: tuple[object, ...], arguments: tuple[object, ...]
) -> object:
    """Return a type in which the arguments of a generic class are in place of its parameters."""
    given = dict(zip(parameters, arguments, strict=False))
    if isinstance(hint, typing.TypeVar):
        return given.get(hint, hint)
    own: tuple[object, ...] = getattr(hint, "__parameters__", ())
    if not own or isinstance(hint, type):
        return hint
    generic: typing.Any = hint
    return generic[tuple(given.get(it, it) for it in own)]
