"""Collects the queues and schedules that an application's code declares."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Unpack, cast

import msgspec

from poussetaches.client.arguments import ArgumentError, DefinitionError, UnknownType
from poussetaches.client.declaration_sender import Declaration, Declarer, RoutedQueue
from poussetaches.client.definition_options import QueueOptions, Schedule, ScheduleOptions
from poussetaches.client.durations import in_seconds, with_seconds
from poussetaches.client.options import Callback
from poussetaches.client.request_fields import QueueFields, Retry
from poussetaches.client.task_function import (
    PushOptions,
    TaskFunction,
    check_callbacks,
    check_is_task,
)
from poussetaches.client.task_names import SERVER_NAME, check_name
from poussetaches.client.validation import check_known, check_queue_settings, check_run_rules
from poussetaches.core.errors import InvalidSchedule
from poussetaches.core.queue import CALLBACKS_QUEUE, DEFAULT_QUEUE
from poussetaches.core.retry import RetryPolicy
from poussetaches.core.schedule import NOT_IN_SCHEDULES, OF_ONE_RUN, check_new_expression
from poussetaches.core.schedule_owner import NAMELESS_OWNER
from poussetaches.core.target import absolute_url, is_path

CALLBACKS = ("on_success", "on_dead")
SIMILAR = 0.75  # two of four letters swapped, or one of four replaced
MOST_MODULES = 80  # of a declaration; 16,384 characters are allowed
MAX_RETRY_AFTER = RetryPolicy().max_retry_after  # seconds


class Declarations:
    """The queues and schedules of an application, by the server's names.

    ``functions`` are the application's tasks: ``base_url`` is declared for each queue they use.
    """

    def __init__(
        self,
        *,
        name: str | None,
        version: int | None,
        base_url: str | None,
        path: str,
        functions: Iterable[TaskFunction[..., Any]],
    ) -> None:
        if name is not None:
            check_name("Tasks(name=…)", name, SERVER_NAME)
        if base_url is not None:
            check_queue_settings(f"queue {name or DEFAULT_QUEUE!r}", {"base_url": base_url})
        if not path.startswith("/"):
            raise DefinitionError(f"path={path!r} is not allowed: must begin with a slash")
        self.name = name
        self.version = version
        self.path = path.rstrip("/")
        self.schedules: dict[str, Schedule] = {}
        self.queues: dict[str, dict[str, object]] = {}
        self._base_url = base_url
        self._tasks = functions

    def schedule(
        self,
        name: str,
        task: TaskFunction[..., Any] | PushOptions[..., Any],
        *,
        cron: str,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """Run a task at the times of an expression; one task may have several schedules.

        ``arguments`` are given by name. ``misfire_grace`` is in seconds.

        Raises:
            DefinitionError: the name is taken or cannot be one, the expression, the time zone or
                an option is one that the server refuses, or the arguments do not fit.
        """
        subject = f"schedule {name!r}"
        check_known(subject, options, ScheduleOptions.__annotations__, noun="option")
        check_is_task(subject, task)
        _check_fits_every_run(subject, task)
        schedule = Schedule(
            name,
            task,
            _by_name(subject, options.get("arguments")),
            cron,
            options.get("timezone", "UTC"),
            options.get("misfire"),
            options.get("misfire_grace"),
            options.get("overlap"),
        )
        check_expression(schedule.cron, schedule.timezone)
        try:
            with contextlib.suppress(UnknownType):  # its class may be defined later in the module
                schedule.new_task()
        except ArgumentError as exc:
            raise DefinitionError(f"schedule {name}: {exc}") from None
        self._add_schedule(schedule)

    def queue(self, name: str | None = None, **settings: Unpack[QueueOptions]) -> None:
        """Declare settings of a queue, by default of the queue ``default``.

        Settings that are not given keep the server's values. Durations are seconds.

        Raises:
            DefinitionError: every server refuses the name or a setting, or there is no such
                setting; or a callback is neither a URL nor a task of this application that takes
                one ``EndedTask``.
        """
        its_name = self.queue_name(name) or DEFAULT_QUEUE
        subject = f"queue {its_name!r}"
        check_name("queue", its_name, SERVER_NAME)
        check_known(subject, settings, QueueOptions.__annotations__, noun="setting")
        check_callbacks(
            self, on_success=settings.get("on_success"), on_dead=settings.get("on_dead")
        )
        given = {key: value for key, value in settings.items() if value is not None}
        declared = {**self.queues.get(its_name, {}), **given}
        check_queue_settings(subject, declared)
        self.queues[its_name] = cast("dict[str, object]", with_seconds(declared))

    def queue_name(self, name: str | None) -> str | None:
        """Return the server's name of a queue; None is the server's default queue."""
        if self.name is None:
            return name
        return self.name if name is None else f"{self.name}.{name}"

    def timeout_of(self, task: TaskFunction[..., Any], queue: str) -> float | None:
        """Return the timeout of an attempt in a queue of the server, if the code sets it."""
        own = None if queue == CALLBACKS_QUEUE else task.default_options.given.get("timeout")
        return cast("float | None", own or self.queues.get(queue, {}).get("timeout"))

    def max_retry_after_of(self, task: TaskFunction[..., Any], queue: str) -> float:
        """Return the longest wait in seconds that a handler can request."""
        options = {} if queue == CALLBACKS_QUEUE else task.default_options.given
        own = options.get("retry") or {}
        retry: Retry = {
            **cast("Retry", self.queues.get(queue, {}).get("retry", {})),
            **own,
        }
        return in_seconds(retry.get("max_retry_after", MAX_RETRY_AFTER))

    def callback_url(self, callback: Callback | None) -> str | None:
        """Return the URL of a callback.

        The server puts a path behind the base URL of its queue ``callbacks``, which is not the
        application's own; so a task's URL is absolute if the code sets a base URL for its queue.
        """
        if callback is None or isinstance(callback, str):
            return callback
        task = cast("TaskFunction[..., Any]", callback)
        path = f"{self.path}/{task.name}"
        queue = self.queue_name(task.default_options.given.get("queue")) or DEFAULT_QUEUE
        base_url = self.queues.get(queue, {}).get("base_url", self._base_url)
        if base_url is None or not self.has_server():
            return path
        return absolute_url(cast("str", base_url), path)

    def routed_queue(self, name: str | None) -> RoutedQueue | None:
        """Return a queue of the server if the code sets its base URL, else None."""
        settings = self._declared_queue(name or DEFAULT_QUEUE)
        if "base_url" not in settings:
            return None
        return RoutedQueue(name or DEFAULT_QUEUE, cast("QueueFields", settings), self._declarer())

    def used_queues(self) -> list[str]:
        """Return the server's queues that the code's tasks and callbacks are pushed to."""
        return [*self._queue_names(), *([CALLBACKS_QUEUE] if self._has_callbacks() else [])]

    def misspelt_queues(self) -> list[str]:
        """Return a warning for each task's queue that looks like a misspelt declared one.

        Queues need no declaration, so others are not suspicious.
        """
        found: list[str] = []
        # Without the application's name, which would make all names similar.
        prefix = f"{self.name}." if self.name else ""
        declared = [name.removeprefix(prefix) for name in self.queues]
        for task in self._tasks:
            name = task.default_options.given.get("queue")
            if name is None or name in declared:
                continue
            if similar := get_close_matches(name, declared, n=1, cutoff=SIMILAR):
                found.append(
                    f"the queue {name!r} of the task {task.name} is not declared; did you mean"
                    f" {similar[0]!r}? If not, declare it: tasks.queue({name!r})"
                )
        return found

    def has_server(self) -> bool:
        """Return whether deliveries come from a server, by the base URLs in the code."""
        return True

    def declaration(self) -> Declaration:
        """Return the queues and schedules to declare."""
        names = list(self.queues) if self._base_url is None else self._queue_names()
        return Declaration(
            queues={name: self._declared_queue(name) for name in names},
            declarer=self._declarer(),
            schedules=[self._declared(schedule) for schedule in self.schedules.values()],
            version=self.version,
            # Without a name, the existing schedules may belong to another application.
            replaces=self.name is not None or bool(self.schedules),
        )

    def _declarer(self) -> Declarer:
        modules = {task.name.partition(".")[0] for task in self._tasks if "." in task.name}
        return Declarer(self.name or NAMELESS_OWNER, sorted(modules)[:MOST_MODULES])

    def _add_schedule(self, schedule: Schedule) -> None:
        check_name("schedule", self.queue_name(schedule.name), SERVER_NAME)
        rules = {
            "misfire": schedule.misfire,
            "misfire_grace": schedule.misfire_grace,
            "overlap": schedule.overlap,
        }
        check_run_rules(f"schedule {schedule.name!r}", rules)
        there = self.schedules.get(schedule.name)
        if there is not None and there != schedule and not there.is_reloaded_by(schedule):
            raise DefinitionError(
                f"the schedule {schedule.name!r} is already defined; give each schedule a unique"
                " name"
            )
        self.schedules[schedule.name] = schedule

    def _declared_queue(self, name: str) -> dict[str, object]:
        settings = {"base_url": self._base_url, **self.queues.get(name, {})}
        if settings["base_url"] is None or not self.has_server():
            del settings["base_url"]
        for field in settings.keys() & {*CALLBACKS}:
            settings[field] = self.callback_url(cast("Callback", settings[field]))
        return settings

    def _declared(self, schedule: Schedule) -> dict[str, object]:
        pushed = msgspec.structs.asdict(schedule.new_task())
        declared: dict[str, object] = {
            "name": self.queue_name(schedule.name),
            "cron": schedule.cron,
            "timezone": schedule.timezone,
            "task": {key: value for key, value in pushed.items() if value is not None},
            "misfire": schedule.misfire,
            "misfire_grace": schedule.misfire_grace,
            "overlap": schedule.overlap,
        }
        given = {key: value for key, value in declared.items() if value is not None}
        return cast("dict[str, object]", with_seconds(given))

    def _has_callbacks(self) -> bool:
        """Return whether tasks or queues have callbacks that are delivered to this application."""
        given = [
            *(queue.get(field) for queue in self.queues.values() for field in CALLBACKS),
            *(
                task.default_options.given.get(field)
                for task in self._tasks
                for field in CALLBACKS
            ),
        ]
        return any(
            isinstance(it, TaskFunction) or (it and is_path(cast("str", it))) for it in given
        )

    def _queue_names(self) -> list[str]:
        used = [self.queue_name(task.default_options.given.get("queue")) for task in self._tasks]
        return list(dict.fromkeys([*self.queues, *(name or DEFAULT_QUEUE for name in used)]))


def check_expression(expression: str, timezone: str) -> None:
    """Check the expression and the time zone of a schedule.

    Raises:
        DefinitionError: every server refuses one of them.
    """
    for name, value, example in (
        ("cron", expression, "0 6 * * *"),
        ("timezone", timezone, "Europe/Paris"),
    ):
        if not isinstance(value, str):
            raise DefinitionError(
                f"{name}={value!r} is not allowed: must be a str; for example {name}={example!r}"
            )
    try:
        check_new_expression(expression, timezone)
    except InvalidSchedule as exc:
        raise DefinitionError(str(exc)) from None


def _check_fits_every_run(
    subject: str, task: TaskFunction[..., Any] | PushOptions[..., Any]
) -> None:
    """Check that a schedule's task has no option that must differ between pushes.

    Raises:
        DefinitionError: it has one.
    """
    options = task.options if isinstance(task, PushOptions) else task.default_options
    for field in OF_ONE_RUN:
        if field in options.given:
            raise DefinitionError(f"{subject}: the option {field} {NOT_IN_SCHEDULES}")


def _by_name(subject: str, arguments: Mapping[str, object] | None) -> dict[str, object]:
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise DefinitionError(
            f"{subject}: arguments={arguments!r} is not allowed: give them by name, for example"
            " arguments={'region': 'eu'}"
        )
    return dict(arguments)
