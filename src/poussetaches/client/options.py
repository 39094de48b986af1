"""Options of pushes, and options of tasks for all their pushes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, cast

from poussetaches.client.arguments import DefinitionError
from poussetaches.client.durations import with_seconds
from poussetaches.client.request_fields import CommonFields, Retry, RunFields
from poussetaches.client.results import EndedTask
from poussetaches.client.validation import (
    check_known,
    check_push_options,
    check_task_options,
)


class CallbackTask(Protocol):
    """A task function with one argument, an ``EndedTask``."""

    @property
    def name(self) -> str:
        """The task's name."""

    def push(self, ended: EndedTask, /) -> object:
        """Push the task."""


Callback = str | CallbackTask  # a URL, or a task function of the same application


@dataclass(frozen=True)
class Options:
    """The options of a push. Omitted ones have the defaults of the queue or the server.

    Durations are seconds; ``max_attempts`` is within ``retry``.
    """

    given: PushOptionFields

    def with_defaults(self, others: Options) -> Options:
        """Return these options, with ``others`` as defaults, also within retry and labels."""
        merged: PushOptionFields = {**others.given, **self.given}
        if "retry" in merged:
            merged["retry"] = {**(others.given.get("retry") or {}), **(merged["retry"] or {})}
        if "labels" in merged:
            merged["labels"] = {**(others.given.get("labels") or {}), **(merged["labels"] or {})}
        return Options(merged)


@dataclass(frozen=True)
class RetryRule:
    """The exceptions of a handler that lead to a retry; by default, all do.

    ``give_up_on`` takes precedence over ``retry_on``.
    """

    give_up_on: tuple[type[Exception], ...] = ()
    retry_on: tuple[type[Exception], ...] | None = None

    def gives_up_on(self, exc: Exception) -> bool:
        """Return whether an exception makes the task a dead letter at once."""
        if isinstance(exc, self.give_up_on):
            return True
        return self.retry_on is not None and not isinstance(exc, self.retry_on)


def retry_rule(definition: TaskOptions) -> RetryRule:
    """Return the retry rule of a definition.

    Raises:
        DefinitionError: give_up_on or retry_on is not a list or tuple of exception classes.
    """
    retry_on = definition.get("retry_on")
    return RetryRule(
        give_up_on=_exception_classes("give_up_on", definition.get("give_up_on") or ()),
        retry_on=None if retry_on is None else _exception_classes("retry_on", retry_on),
    )


def _exception_classes(
    option: str, given: Sequence[type[Exception]]
) -> tuple[type[Exception], ...]:
    kinds: object = given  # for applications without a type checker
    if isinstance(kinds, list | tuple) and all(map(_is_exception_class, kinds)):
        return tuple(given)
    raise DefinitionError(
        f"{option} takes exception classes, as in {option}=(ValueError, KeyError), not {given!r}"
    )


def _is_exception_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


class _SharedOptions(CommonFields, total=False):
    queue: str | None
    max_attempts: int | None
    retry: Retry | None
    on_success: Callback | None
    on_dead: Callback | None
    labels: Mapping[str, str] | None


class PushOptionFields(_SharedOptions, RunFields, total=False):
    """The options of a push. ``delay`` and ``timeout`` are seconds; moments need a time zone."""


class _DefinitionOptions(TypedDict, total=False):
    name: str | None
    aliases: Sequence[str]
    give_up_on: Sequence[type[Exception]]
    retry_on: Sequence[type[Exception]] | None


class TaskOptions(_DefinitionOptions, _SharedOptions, total=False):
    """The options of a task; those of a push take precedence. ``timeout`` is in seconds."""


def aliases_of(definition: TaskOptions) -> Sequence[str]:
    """Return the former names of a task.

    Raises:
        DefinitionError: they are a single string, which would be read as one-letter names.
    """
    aliases = definition.get("aliases", ())
    if isinstance(aliases, str):
        raise DefinitionError(f"aliases takes a list of names, not {aliases!r}")
    return aliases


def default_options(name: str, definition: TaskOptions) -> Options:
    """Return the options for all pushes of a task.

    Raises:
        DefinitionError: an option is unknown, or has a value that every server refuses.
    """
    check_known(f"task {name!r}", definition, TaskOptions.__annotations__, noun="option")
    given = {option: it for option, it in definition.items() if option in _FOR_PUSHES}
    check_task_options(f"task {name!r}", given)
    return _options(cast("PushOptionFields", given))


def push_options(name: str, given: PushOptionFields) -> Options:
    """Return the options of a push of the task.

    Raises:
        DefinitionError: an option is unknown.
        ArgumentError: an option has a value that every server refuses.
    """
    check_known(f"task {name!r}", given, _FOR_PUSHES, noun="option")
    check_push_options(name, given)
    return _options(given)


_FOR_PUSHES = PushOptionFields.__annotations__


def _options(given: PushOptionFields) -> Options:
    set_options = {name: value for name, value in given.items() if value is not None}
    options = cast("PushOptionFields", with_seconds(set_options))
    retry = options.pop("retry", None) or {}
    if (max_attempts := options.pop("max_attempts", None)) is not None:
        retry = {**retry, "max_attempts": max_attempts}
    if retry:
        options["retry"] = retry
    return Options(options)
