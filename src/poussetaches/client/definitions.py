"""What the code says when it defines tasks, schedules and queues."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar, overload

from poussetaches.client.function import AsyncTask, PushOptions, SyncTask, TaskFunction
from poussetaches.client.results import NewTask

P = ParamSpec("P")
R = TypeVar("R")

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
