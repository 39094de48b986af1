"""Many tasks in slices that the server takes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from poussetaches.client.requests import line_of, push_lines
from poussetaches.client.results import NewTask, PushedTask
from poussetaches.client.wire import Request

KEY_TTL = 600.0  # seconds for which a push may be repeated
MOST_TASKS = 10_000  # as many as the server takes
MOST_BYTES = 8 * 1024 * 1024  # it takes 64 MiB; smaller ones are done sooner


class Slice(msgspec.Struct, frozen=True):
    """Tasks that are pushed together, and how."""

    tasks: list[NewTask]
    request: Request[list[PushedTask]]


class _Gathered:
    """The tasks of a slice, as they come."""

    def __init__(self) -> None:
        self.tasks: list[NewTask] = []
        self.lines: list[bytes] = []
        self.may_exist: list[bool] = []
        self.size = 0

    def has_room_for(self, line: bytes) -> bool:
        if not self.tasks:
            return True
        return len(self.tasks) < MOST_TASKS and self.size + len(line) <= MOST_BYTES

    def slice(self) -> Slice:
        return Slice(self.tasks, push_lines(self.lines, self.may_exist))


def slices(tasks: Iterable[NewTask], *, new_key: Callable[[], str]) -> Iterator[Slice]:
    """Yield tasks in slices; each task without a key gets one."""
    gathered = _Gathered()
    for task in tasks:
        pushed = keyed(task, new_key)
        line = line_of(pushed)
        if not gathered.has_room_for(line):
            yield gathered.slice()
            gathered = _Gathered()
        gathered.tasks.append(pushed)
        gathered.lines.append(line)
        gathered.may_exist.append(task.key is not None or task.unique is not None)
        gathered.size += len(line) + 1
    if gathered.tasks:
        yield gathered.slice()


def keyed(task: NewTask, new_key: Callable[[], str]) -> NewTask:
    """Return a task with a key, so that it may be pushed again and is one task."""
    if task.key is not None:
        return task
    return msgspec.structs.replace(task, key=new_key(), key_ttl=KEY_TTL)
