"""The task functions of an application, by name and alias."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from poussetaches.client.arguments import DefinitionError
from poussetaches.client.receiver import PROBE
from poussetaches.client.task_function import TaskFunction
from poussetaches.client.task_names import TASK_NAME, Source, check_name


class TaskRegistry:
    """Task functions with unique names and aliases."""

    def __init__(self) -> None:
        self._functions: dict[str, TaskFunction[..., Any]] = {}
        self._aliases: dict[str, TaskFunction[..., Any]] = {}

    def __len__(self) -> int:
        return len(self._functions)

    def __iter__(self) -> Iterator[TaskFunction[..., Any]]:
        return iter(self._functions.values())

    def find(self, name: str) -> TaskFunction[..., Any] | None:
        """Return the task with this name or alias; None if there is none."""
        return self._functions.get(name) or self._aliases.get(name)

    def add(self, task: TaskFunction[..., Any], aliases: Sequence[str]) -> None:
        """Add a task, or replace it if its module was reloaded.

        Raises:
            DefinitionError: a name or alias is invalid or already used, or every push would fail.
        """
        for name in (task.name, *aliases):
            check_name("task", name, TASK_NAME)
            self._check_free(name, task.source)
        task.check()
        self._functions[task.name] = task
        self._aliases.update(dict.fromkeys(aliases, task))

    def _check_free(self, name: str, source: Source) -> None:
        if name == PROBE:
            raise DefinitionError(f"{name} is a reserved task name; use another one")
        there = self.find(name)
        if there is not None and not there.source.is_reloaded_by(source):
            raise DefinitionError(
                f"the task {name!r} is already defined, by the function {there.source.name};"
                " give each function a unique name with name=, and use functools.wraps in"
                " decorators, which keeps the name"
            )
