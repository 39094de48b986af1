"""``RecordBox``: collects the pushes of a test."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from poussetaches.client.errors import NotFound
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import ProgressReport, PushedTask, TaskInfo
from poussetaches.client.task_function import TaskFunction, check_is_task
from poussetaches.client.tasks import Tasks


@dataclass(frozen=True)
class Record:
    """A push: the arguments as the handler would get them, and everything else in ``task``."""

    name: str
    arguments: Mapping[str, object]  # by name, including defaults
    task: NewTask


class RecordBox:
    """Accepts pushes instead of a server; nothing is delivered.

    As with a server, a push whose ``key`` was pushed before makes no other task.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._all: list[Record] = []
        self._keys: dict[tuple[str | None, str], str] = {}

    @property
    def all(self) -> list[Record]:
        """Everything that was pushed so far, in order."""
        self._tasks.push_pending_in_test()
        return list(self._all)

    def pushed(self, task: TaskFunction[..., Any]) -> list[Record]:
        """Return the pushes of one task so far, in order."""
        check_is_task("pushed", task)
        return [record for record in self.all if record.name == task.name]

    def clear(self) -> None:
        """Forget what was pushed so far."""
        self._tasks.push_pending_in_test()
        self._all.clear()
        self._keys.clear()

    def push(self, task: NewTask) -> PushedTask:
        """Collect a push."""
        known = None if task.key is None else self._keys.get((task.queue, task.key))
        if known is not None:
            return PushedTask(id=known, existing=True, task=None)
        id = f"{len(self._all) + 1:032x}"
        if task.key is not None:
            self._keys[task.queue, task.key] = id
        self._all.append(self._record_of(task))
        return PushedTask(id=id, existing=False, task=None)

    def push_all(self, tasks: Sequence[NewTask]) -> None:
        """Collect pushes."""
        for task in tasks:
            self.push(task)

    async def apush(self, task: NewTask) -> PushedTask:
        """Collect a push."""
        return self.push(task)

    def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        """Do nothing: no task runs."""

    def get(self, id: str) -> TaskInfo:
        """Raise: recorded tasks have no state."""
        raise NotFound(
            404,
            code="task-not-found",
            title="Not Found",
            detail='this test only records pushes; use testing(tasks, "run") to run them',
        )

    def wait(self, id: str, timeout: float) -> TaskInfo:
        """Raise, as ``get`` does."""
        return self.get(id)

    async def aget(self, id: str) -> TaskInfo:
        """Raise, as ``get`` does."""
        return self.get(id)

    async def await_end(self, id: str, timeout: float) -> TaskInfo:  # noqa: ASYNC109  # as wait
        """Raise, as ``get`` does."""
        return self.get(id)

    def _record_of(self, task: NewTask) -> Record:
        name = task.url.removeprefix(self._tasks.path + "/")
        function = self._tasks.find(name)
        assert function is not None, name
        bound = function.arguments.decode(msgspec.json.encode(task.json))
        called = inspect.signature(function.function).bind_partial(*bound.args, **bound.kwargs)
        return Record(function.name, called.arguments, task)
