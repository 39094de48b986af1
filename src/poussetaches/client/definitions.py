"""What the code says when it defines tasks, schedules and queues."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import (
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    overload,
)

import msgspec

from poussetaches.client.arguments import ArgumentError, DefinitionError
from poussetaches.client.function import AsyncTask, PushOptions, SyncTask, TaskFunction
from poussetaches.client.names import SERVER_NAME, check_name
from poussetaches.client.options import Options
from poussetaches.client.request_json import encode_request
from poussetaches.client.results import NewTask
from poussetaches.core.errors import Invalid
from poussetaches.core.schedule import RunRules

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")

Misfire = Literal["once", "skip", "all"]
Overlap = Literal["skip", "allow"]


class Keep(TypedDict, total=False):
    """How many ended tasks of a queue are kept, and for how many seconds."""

    count: int
    age: float


@dataclass(frozen=True)
class Schedule:
    """When a task runs by itself, and with which arguments."""

    name: str
    task: TaskFunction[..., Any] | PushOptions[..., Any]
    arguments: Mapping[str, object]
    cron: str
    timezone: str
    misfire: Misfire | None
    misfire_grace: float | None
    overlap: Overlap | None

    @property
    def function(self) -> TaskFunction[..., Any]:
        """The task, without the options of its pushes."""
        return self.task.task if isinstance(self.task, PushOptions) else self.task

    def is_reloaded_by(self, later: Schedule) -> bool:
        """Return whether a later schedule replaces this one because its module was reloaded."""
        return self.function.source.is_reloaded_by(later.function.source)

    def new_task(self) -> NewTask:
        """Return the push of each run.

        Raises:
            ArgumentError: an argument does not fit, or cannot travel.
        """
        return self.task.prepare(**self.arguments)


class TaskDecorator(Protocol):
    """Makes a function a task."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # an async one fits both; the first wins
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


RUN_RULES_EXAMPLES: Mapping[str, object] = {
    "misfire": "skip",
    "misfire_grace": 3600,
    "overlap": "skip",
}


def check_run_rules(schedule: Schedule) -> None:
    """Check the run rules of a schedule: misfire, misfire_grace and overlap.

    Raises:
        DefinitionError: every server refuses one; the error says what is allowed.
    """
    rules = {
        "misfire": schedule.misfire,
        "misfire_grace": schedule.misfire_grace,
        "overlap": schedule.overlap,
    }
    if (refusal := _refusal_of(rules, RunRules)) is not None:
        subject = f"schedule {schedule.name!r}"
        raise _definition_error(subject, rules, refusal, RUN_RULES_EXAMPLES)


def check_task_options(name: str, options: Options) -> None:
    """Check the options of a task that a server reads as it does a queue's.

    Raises:
        DefinitionError: every server refuses one; the error says what is allowed.
    """
    if options.queue is not None:
        check_name(options.queue, SERVER_NAME)
    given: dict[str, object] = {"timeout": options.timeout, "retry": options.retry or None}
    urls = {"on_success": options.on_success, "on_dead": options.on_dead}
    given |= {field: url for field, url in urls.items() if isinstance(url, str)}
    check_settings(f"task {name!r}", {key: it for key, it in given.items() if it is not None})


def check_settings(subject: str, settings: Mapping[str, object]) -> None:
    """Check settings of a queue, or of another subject that has some of them.

    Raises:
        DefinitionError: every server refuses one; the error says what is allowed.
    """
    if not settings:
        return
    # Imported here: it is slow, and most applications have no such settings.
    from poussetaches.core.queue_fields import (  # noqa: PLC0415
        EXAMPLES,
        QueueFields,
        check_queue,
    )

    refusal = _refusal_of(settings, QueueFields, lambda it: check_queue(it.overrides()))
    if refusal is not None:
        raise _definition_error(subject, settings, refusal, EXAMPLES)


class _Refusal(NamedTuple):
    """An invalid field, such as ``retry.dead_on[0]``, and the reason."""

    field: str
    reason: str


def _refusal_of(
    settings: Mapping[str, object], kind: type[V], check: Callable[[V], None] | None = None
) -> _Refusal | None:
    """Return the first field that the server would refuse, reading the settings as a type."""
    from poussetaches.core.refusal import allowed_values, place_of  # noqa: PLC0415

    try:
        fields = msgspec.json.decode(encode_request(settings), type=kind)
        if check is not None:
            check(fields)
    except msgspec.ValidationError as exc:
        field, reason = place_of(str(exc), kind)
        if allowed := allowed_values(kind, field):
            reason = f"must be {allowed}"
        return _Refusal(field, reason)
    except ArgumentError as exc:
        return _Refusal(exc.argument, exc.reason)
    except Invalid as exc:
        return _Refusal(exc.field, exc.reason)
    return None


def _definition_error(
    subject: str,
    settings: Mapping[str, object],
    refusal: _Refusal,
    examples: Mapping[str, object],
) -> DefinitionError:
    setting = re.split(r"[.\[]", refusal.field)[0]
    if setting not in settings:
        return DefinitionError(f"{subject}: {refusal.reason}")
    within = "" if refusal.field == setting else f"{refusal.field} "
    return DefinitionError(
        f"{subject}: {setting}={settings[setting]!r} is not allowed: {within}{refusal.reason}; for"
        f" example {setting}={examples[setting]!r}"
    )
