"""Options of pushes, and options of tasks for all their pushes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Protocol, TypedDict, cast

from poussetaches.client.arguments import DefinitionError
from poussetaches.client.durations import Seconds, in_seconds, with_seconds
from poussetaches.client.request_fields import OnConflict, Retry
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


@dataclass(frozen=True, kw_only=True)
class Options:
    """The fields of a push; None means the default of the queue or the server."""

    queue: str | None = None
    delay: float | None = None
    run_at: datetime | None = None
    priority: int | None = None
    timeout: float | None = None
    retry: Retry = field(default_factory=Retry)
    key: str | None = None
    unique: str | None = None
    on_conflict: OnConflict | None = None
    expires_at: datetime | None = None
    on_success: Callback | None = None
    on_dead: Callback | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def with_defaults(self, others: Options) -> Options:
        """Return these options, with ``others`` as defaults, also within retry and labels."""
        definition = {
            it.name: getattr(self, it.name)
            for it in fields(self)
            if getattr(self, it.name) is not None
        }
        definition["retry"] = {**others.retry, **self.retry}
        definition["labels"] = {**others.labels, **self.labels}
        return replace(others, **definition)


@dataclass(frozen=True)
class RetryRule:
    """Which exceptions of a handler lead to a retry; by default all of them.

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


class PushOptionFields(TypedDict, total=False):
    """The options of a push. ``delay`` and ``timeout`` are seconds; moments need a time zone."""

    queue: str | None
    delay: Seconds | None
    run_at: datetime | None
    priority: int | None
    timeout: Seconds | None
    max_attempts: int | None
    retry: Retry | None
    key: str | None
    unique: str | None
    on_conflict: OnConflict | None
    expires_at: datetime | None
    on_success: Callback | None
    on_dead: Callback | None
    labels: Mapping[str, str] | None


class TaskOptions(TypedDict, total=False):
    """The options of a task; those of a push take precedence. ``timeout`` is in seconds."""

    name: str | None
    aliases: Sequence[str]
    give_up_on: Sequence[type[Exception]]
    retry_on: Sequence[type[Exception]] | None
    queue: str | None
    max_attempts: int | None
    timeout: Seconds | None
    priority: int | None
    retry: Retry | None
    labels: Mapping[str, str] | None
    on_success: Callback | None
    on_dead: Callback | None


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
    check_push_options(given)
    return _options(given)


_FOR_PUSHES = PushOptionFields.__annotations__


def _options(given: PushOptionFields) -> Options:
    delay, timeout = given.get("delay"), given.get("timeout")
    retry = cast("Retry", with_seconds(given.get("retry") or {}))
    if (max_attempts := given.get("max_attempts")) is not None:
        retry = {**retry, "max_attempts": max_attempts}
    return Options(
        queue=given.get("queue"),
        delay=None if delay is None else in_seconds(delay),
        run_at=given.get("run_at"),
        priority=given.get("priority"),
        timeout=None if timeout is None else in_seconds(timeout),
        retry=retry,
        key=given.get("key"),
        unique=given.get("unique"),
        on_conflict=given.get("on_conflict"),
        expires_at=given.get("expires_at"),
        on_success=given.get("on_success"),
        on_dead=given.get("on_dead"),
        labels=given.get("labels") or {},
    )
