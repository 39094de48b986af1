"""What a push may say besides the arguments, and what a task says for all its pushes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Protocol, TypedDict

from poussetaches.client.arguments import ArgumentError, DefinitionError
from poussetaches.client.fields import OnConflict, Retry
from poussetaches.client.results import EndedTask


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
    """The fields of a push; None leaves one to the queue or to the server."""

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

    def check(self) -> None:
        """Refuse moments that could be meant in any time zone.

        Raises:
            ArgumentError: there is one.
        """
        for name, moment in (("run_at", self.run_at), ("expires_at", self.expires_at)):
            if moment is not None and moment.tzinfo is None:
                raise ArgumentError(name, f"{moment} has no time zone; give one")

    def over(self, others: Options) -> Options:
        """Return these with others where these say nothing, also within retry and labels."""
        said = {
            it.name: getattr(self, it.name)
            for it in fields(self)
            if getattr(self, it.name) is not None
        }
        said["retry"] = {**others.retry, **self.retry}
        said["labels"] = {**others.labels, **self.labels}
        return replace(others, **said)


def retry_with(retry: Retry | None, max_attempts: int | None) -> Retry:
    """Return a retry policy with ``max_attempts``, if given."""
    given = Retry() if retry is None else retry
    return given if max_attempts is None else {**given, "max_attempts": max_attempts}


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


def retry_rule(said: TaskOptions) -> RetryRule:
    """Return the retry rule of a definition.

    Raises:
        DefinitionError: give_up_on or retry_on is not a list or tuple of exception classes.
    """
    retry_on = said.get("retry_on")
    return RetryRule(
        give_up_on=_exception_classes("give_up_on", said.get("give_up_on") or ()),
        retry_on=None if retry_on is None else _exception_classes("retry_on", retry_on),
    )


def _exception_classes(
    option: str, given: Sequence[type[Exception]]
) -> tuple[type[Exception], ...]:
    kinds: object = given  # applications may have no type checker
    if isinstance(kinds, list | tuple) and all(map(_is_exception_class, kinds)):
        return tuple(given)
    raise DefinitionError(
        f"{option} takes exception classes, as in {option}=(ValueError, KeyError), not {given!r}"
    )


def _is_exception_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


class TaskOptions(TypedDict, total=False):
    """What a task is defined with; its pushes may say otherwise. ``timeout`` is in seconds."""

    name: str | None
    aliases: Sequence[str]
    give_up_on: Sequence[type[Exception]]
    retry_on: Sequence[type[Exception]] | None
    queue: str | None
    max_attempts: int | None
    timeout: float | None
    priority: int | None
    retry: Retry | None
    labels: Mapping[str, str] | None
    on_success: Callback | None
    on_dead: Callback | None


def aliases_of(said: TaskOptions) -> Sequence[str]:
    """Return the former names of a task.

    Raises:
        DefinitionError: they are a single string, which is a sequence of one-letter names.
    """
    aliases = said.get("aliases", ())
    if isinstance(aliases, str):
        raise DefinitionError(f"aliases takes a list of names, not {aliases!r}")
    return aliases


def default_options(name: str, said: TaskOptions) -> Options:
    """Return the options of a definition for all pushes of the task.

    Raises:
        DefinitionError: an option is unknown.
    """
    known = TaskOptions.__annotations__
    for option in said.keys() - known.keys():
        raise DefinitionError(
            f"task {name!r}: unknown option {option!r}; the options are {', '.join(known)}"
        )
    return Options(
        queue=said.get("queue"),
        timeout=said.get("timeout"),
        priority=said.get("priority"),
        retry=retry_with(said.get("retry"), said.get("max_attempts")),
        labels=said.get("labels") or {},
        on_success=said.get("on_success"),
        on_dead=said.get("on_dead"),
    )
