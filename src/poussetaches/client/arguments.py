"""Encodes a call's arguments as one JSON object, checked against the handler's types.

Arguments are sent by name. Those of ``*items`` are a list named ``"*items"``; those of
``**options`` stand beside the other names. An omitted argument is not sent: the code that runs the
task supplies its default. If the only required argument is an ``EndedTask``, it is the object
itself, as the server sends it to a callback.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from poussetaches.client.codec import Codec, CodecError
from poussetaches.client.handler_function import unwrap
from poussetaches.client.results import EndedTask
from poussetaches.core.errors import PousseTachesError
from poussetaches.core.json_depth import MAX_DEPTH, is_too_deep

_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_POSITIONAL_OR_KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD

# Returns whether the framework injects a parameter of this type on arrival.
Injected = Callable[[inspect.Parameter, object], bool]


class ArgumentError(PousseTachesError, TypeError):
    """An argument has no JSON, or does not match the handler."""

    def __init__(self, argument: str, reason: str, *, task: str = "") -> None:
        message = f"argument {argument}: {reason}" if argument else reason
        super().__init__(f"task {task}: {message}" if task else message)
        self.argument = argument
        self.reason = reason


class DefinitionError(PousseTachesError, TypeError):
    """A task, schedule or queue is defined in a way that can never work."""


class UnknownType(DefinitionError):
    """A type annotation cannot be resolved in its module, or not yet."""


@dataclass(frozen=True)
class Bound:
    """The decoded arguments of a call."""

    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)


def nothing_injected(parameter: inspect.Parameter, hint: object) -> bool:
    return False


class Arguments:
    """The arguments that a handler takes.

    Raises:
        UnknownType: a type annotation cannot be resolved in its module.
    """

    def __init__(
        self, function: Callable[..., object], *, injected: Injected = nothing_injected
    ) -> None:
        self._signature = _signature_of(function)
        self.hints = {
            name: resolve(function, parameter.annotation)
            for name, parameter in self._signature.parameters.items()
        }
        self.injected = {
            name
            for name, parameter in self._signature.parameters.items()
            if injected(parameter, self.hints[name])
        }
        self._travelling = {
            name: parameter
            for name, parameter in self._signature.parameters.items()
            if name not in self.injected
        }
        self._codecs = {name: Codec(self.hints[name]) for name in self._travelling}
        kinds = [parameter.kind for parameter in self._travelling.values()]
        self._takes_any_name = _VAR_KEYWORD in kinds
        self._takes_any_number = _VAR_POSITIONAL in kinds
        self._ended_task = self._only_ended_task()

    @property
    def is_callback_body(self) -> bool:
        """Whether the body of a callback is the only argument, an ``EndedTask``."""
        return self._ended_task is not None

    def required(self) -> Iterator[str]:
        """Yield the names of the required arguments."""
        for name, parameter in self._travelling.items():
            optional = parameter.kind in {_VAR_POSITIONAL, _VAR_KEYWORD}
            if parameter.default is inspect.Parameter.empty and not optional:
                yield name

    def check(self) -> None:
        """Check that pushes can succeed.

        Raises:
            DefinitionError: no value of a required argument's type can be encoded.
        """
        for name in self.required():
            if reason := self._codecs[name].impossible():
                raise DefinitionError(f"argument {name}: {reason}")

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Return the JSON object for a call.

        Raises:
            ArgumentError: an argument is missing or unknown, or has the wrong type or no JSON.
        """
        sent: dict[str, object] = {}
        for name, value in self._bind(args, kwargs).items():
            parameter, codec = self._travelling[name], self._codecs[name]
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    values = typing.cast("tuple[object, ...]", value)
                    sent["*" + name] = [_encode(codec, name, item, outer=2) for item in values]
                case inspect.Parameter.VAR_KEYWORD:
                    options = typing.cast("dict[str, object]", value)
                    sent |= {key: _encode(codec, key, item) for key, item in options.items()}
                case _:
                    outer = 1 if self._ended_task is None else 0
                    sent[name] = _encode(codec, name, value, outer=outer)
        if self._ended_task is not None:
            return typing.cast("dict[str, object]", sent[self._ended_task])
        return sent

    def decode(self, body: bytes) -> Bound:
        """Return the arguments in a delivered body; an empty body has none.

        Raises:
            ArgumentError: the body is not a JSON object or is nested too deeply, or an argument is
                missing or unknown, or has the wrong type.
        """
        if is_too_deep(body):
            raise ArgumentError("", f"the body is nested more than {MAX_DEPTH} levels deep")
        given = self._named(body or b"{}")
        for name in self.injected & given.keys():
            raise ArgumentError(name, "it is injected where the task runs; leave it out")
        args: list[object] = []
        kwargs: dict[str, object] = {}
        for name, parameter in self._travelling.items():
            codec = self._codecs[name]
            if parameter.kind is _VAR_POSITIONAL:
                items = _items(name, given.pop("*" + name, msgspec.Raw(b"[]")))
                args += [_decode(codec, name, item) for item in items]
            elif parameter.kind is _VAR_KEYWORD:
                kwargs |= {key: _decode(codec, key, item) for key, item in given.items()}
                given.clear()
            elif name in given:
                value = _decode(codec, name, given.pop(name))
                self._place(parameter, value, args, kwargs)
            elif parameter.default is inspect.Parameter.empty:
                raise ArgumentError(name, "it is required")
            else:
                self._place(parameter, parameter.default, args, kwargs)
        for name in given:
            raise ArgumentError(name, "the handler has no such argument")
        return Bound(tuple(args), kwargs)

    def _only_ended_task(self) -> str | None:
        """Return the name of the only argument if that is a required ``EndedTask``."""
        names = [name for name in self._travelling if self.hints[name] is EndedTask]
        is_only = len(names) == len(self._travelling) == 1 and names == list(self.required())
        return names[0] if is_only else None

    def _named(self, body: bytes) -> dict[str, msgspec.Raw]:
        if self._ended_task is not None:
            return {self._ended_task: msgspec.Raw(body)}
        try:
            return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise ArgumentError("", f"the body is not a JSON object: {exc}") from None

    def _place(
        self,
        parameter: inspect.Parameter,
        value: object,
        args: list[object],
        kwargs: dict[str, object],
    ) -> None:
        # By name where possible: injected parameters may be in between.
        if parameter.kind is _POSITIONAL_ONLY or (
            parameter.kind is _POSITIONAL_OR_KEYWORD and self._takes_any_number
        ):
            args.append(value)
        else:
            kwargs[parameter.name] = value

    def _bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        for name in kwargs:
            self._check_name(name)
        signature = self._signature.replace(parameters=list(self._travelling.values()))
        try:
            bound = signature.bind_partial(*args, **kwargs)
        except TypeError as exc:
            raise ArgumentError("", str(exc)) from None
        for name in self.required():
            if name not in bound.arguments:
                raise ArgumentError(name, "it is required")
        return bound.arguments

    def _check_name(self, name: str) -> None:
        parameter = self._travelling.get(name)
        if name in self.injected:
            raise ArgumentError(name, "it is injected where the task runs; leave it out")
        if parameter is not None and parameter.kind is _POSITIONAL_ONLY:
            raise ArgumentError(name, "it is positional-only; pass it by position")
        if name.startswith("*") or (parameter is None and not self._takes_any_name):
            raise ArgumentError(name, "the task has no such argument")


def resolve(function: Callable[..., object], annotation: object) -> object:
    """Return the type of a function's annotation; without one, any JSON is allowed.

    Raises:
        UnknownType: it cannot be resolved in the function's module.
    """
    if annotation is inspect.Parameter.empty:
        return typing.Any
    scope = getattr(inspect.unwrap(unwrap(function)), "__globals__", {})
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        hints = typing.get_type_hints(holder, globalns=scope, include_extras=True)
    except NameError as exc:
        raise _unknown_name(function, exc) from None
    hint: object = hints["it"]
    return hint


def _signature_of(function: Callable[..., object]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except NameError as exc:  # Python 3.14 evaluates annotations lazily
        raise _unknown_name(function, exc) from None


def _unknown_name(function: Callable[..., object], exc: NameError) -> UnknownType:
    name = getattr(function, "__qualname__", repr(function))
    return UnknownType(
        f"the types of {name} cannot be read: {exc}; import it at the top of the module,"
        " not only under TYPE_CHECKING"
    )


def _encode(codec: Codec, name: str, value: object, *, outer: int = 1) -> object:
    """Return the JSON of a value inside ``outer`` objects and arrays of the body."""
    try:
        return codec.encode(value, max_depth=MAX_DEPTH - outer)
    except CodecError as exc:
        raise ArgumentError(name, str(exc)) from exc


def _decode(codec: Codec, name: str, raw: msgspec.Raw) -> object:
    try:
        return codec.decode(bytes(raw))
    except CodecError as exc:
        raise ArgumentError(name, str(exc)) from exc


def _items(name: str, raw: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.DecodeError as exc:
        raise ArgumentError(name, str(exc)) from None
