"""How a call's arguments travel: as one JSON object, checked against the handler's types.

Each argument goes by its name. What ``*items`` takes is a list named ``"*items"``, and what
``**options`` takes stands beside the other names. An argument that is not given is not sent: its
default is the one of the code that runs the task. A single required ``EndedTask`` is itself the
object: what the server posts to a callback.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from poussetaches.client.codec import Codec, CodecError
from poussetaches.client.handlers import underlying
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
    """An argument cannot travel, or does not fit the handler."""

    def __init__(self, argument: str, reason: str) -> None:
        super().__init__(f"argument {argument}: {reason}" if argument else reason)
        self.argument = argument
        self.reason = reason


class DefinitionError(PousseTachesError, TypeError):
    """A task is defined in a way in which it can never run."""


class UnknownType(DefinitionError):
    """A type cannot be read: its module does not have it, or not yet."""


@dataclass(frozen=True)
class Bound:
    """The arguments of one call, as they arrived."""

    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)


def nothing_injected(parameter: inspect.Parameter, hint: object) -> bool:
    return False


class Arguments:
    """The arguments that a handler takes.

    Raises:
        UnknownType: a type names something that its module does not have.
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
        """Yield the names of the arguments that each push must give."""
        for name, parameter in self._travelling.items():
            optional = parameter.kind in {_VAR_POSITIONAL, _VAR_KEYWORD}
            if parameter.default is inspect.Parameter.empty and not optional:
                yield name

    def check(self) -> None:
        """Refuse what is sure to fail at each push.

        Raises:
            DefinitionError: a required argument has a type that no value can travel as.
        """
        for name in self.required():
            if reason := self._codecs[name].impossible():
                raise DefinitionError(f"argument {name}: {reason}")

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Return the JSON object for a call.

        Raises:
            ArgumentError: an argument is missing, not known, of another type, or cannot travel.
        """
        sent: dict[str, object] = {}
        for name, value in self._bind(args, kwargs).items():
            parameter, codec = self._travelling[name], self._codecs[name]
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    values = typing.cast("tuple[object, ...]", value)
                    sent["*" + name] = [_encode(codec, name, item, around=2) for item in values]
                case inspect.Parameter.VAR_KEYWORD:
                    options = typing.cast("dict[str, object]", value)
                    sent |= {key: _encode(codec, key, item) for key, item in options.items()}
                case _:
                    around = 1 if self._ended_task is None else 0
                    sent[name] = _encode(codec, name, value, around=around)
        if self._ended_task is not None:
            return typing.cast("dict[str, object]", sent[self._ended_task])
        return sent

    def decode(self, body: bytes) -> Bound:
        """Return the arguments that a delivered body has; an empty one has none.

        Raises:
            ArgumentError: the body is no JSON object or nested too deeply, or an argument is
                missing, not known, or of another type.
        """
        if is_too_deep(body):
            raise ArgumentError("", f"the body is nested more than {MAX_DEPTH} deep")
        given = self._named(body or b"{}")
        for name in self.injected & given.keys():
            raise ArgumentError(name, "it is filled in where the task runs")
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
                raise ArgumentError(name, "it is missing")
            else:
                self._place(parameter, parameter.default, args, kwargs)
        for name in given:
            raise ArgumentError(name, "the handler has none of this name")
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
        # By name where possible: what the framework fills in may stand in between.
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
                raise ArgumentError(name, "it is missing")
        return bound.arguments

    def _check_name(self, name: str) -> None:
        parameter = self._travelling.get(name)
        if name in self.injected:
            raise ArgumentError(name, "it is filled in where the task runs")
        if parameter is not None and parameter.kind is _POSITIONAL_ONLY:
            raise ArgumentError(name, "it can be given by its position only")
        if name.startswith("*") or (parameter is None and not self._takes_any_name):
            raise ArgumentError(name, "the task has none of this name")


def resolve(function: Callable[..., object], annotation: object) -> object:
    """Return the type that an annotation of a function means; none means any JSON.

    Raises:
        UnknownType: it names something that the function's module does not have.
    """
    if annotation is inspect.Parameter.empty:
        return typing.Any
    scope = getattr(inspect.unwrap(underlying(function)), "__globals__", {})
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
    except NameError as exc:  # Python 3.14 looks at annotations that late
        raise _unknown_name(function, exc) from None


def _unknown_name(function: Callable[..., object], exc: NameError) -> UnknownType:
    name = getattr(function, "__qualname__", repr(function))
    return UnknownType(
        f"the types of {name} cannot be read: {exc}; import it at the top of the module, and"
        " not for the type checker only"
    )


def _encode(codec: Codec, name: str, value: object, *, around: int = 1) -> object:
    """Return the JSON of a value that stands within so many objects and arrays of the body."""
    try:
        return codec.encode(value, max_depth=MAX_DEPTH - around)
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
