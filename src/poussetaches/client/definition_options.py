"""Options of the definitions of tasks, schedules and queues."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar, overload

from poussetaches.client.durations import Seconds
from poussetaches.client.options import Callback
from poussetaches.client.request_fields import NewTask, QueueLimits
from poussetaches.client.task_function import AsyncTask, PushOptions, SyncTask, TaskFunction

P = ParamSpec("P")
R = TypeVar("R")

Misfire = Literal["once", "skip", "all"]
Overlap = Literal["skip", "allow"]


class QueueOptions(QueueLimits, total=False):
    """Settings of a queue in the code; callbacks can be tasks."""

    on_success: Callback | None
    on_dead: Callback | None


class ScheduleOptions(TypedDict, total=False):
    """The options of a schedule; ``arguments`` are given by name."""

    timezone: str
    arguments: Mapping[str, object] | None
    misfire: Misfire | None
    misfire_grace: Seconds | None
    overlap: Overlap | None


@dataclass(frozen=True)
class Schedule:
    """A schedule in the code: a task, its times, and its arguments."""

    name: str
    task: TaskFunction[..., Any] | PushOptions[..., Any]
    arguments: Mapping[str, object]
    cron: str
    timezone: str
    misfire: Misfire | None
    misfire_grace: Seconds | None
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
            ArgumentError: an argument has the wrong type or no JSON.
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
