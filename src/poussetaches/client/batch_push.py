"""Slices of tasks that the server takes in one request each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from poussetaches.client.call import Call
from poussetaches.client.errors import ClientError, PushFailed
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import PushedTask
from poussetaches.client.server_answer import Answer, read_answer
from poussetaches.client.single_push import encode_task, is_refusal, keyed
from poussetaches.core.responses import BatchAnswer

LINES = "application/x-ndjson"
MAX_TASKS = 10_000  # the server's limit
MAX_BYTES = 8 * 1024 * 1024  # the server takes 64 MiB, but smaller slices are faster


class Slice:
    """Tasks that are pushed together."""

    def __init__(self) -> None:
        self.tasks: list[NewTask] = []
        self._lines: list[bytes] = []
        self._may_exist: list[bool] = []
        self._size = 0

    @property
    def call(self) -> Call:
        """The request that pushes them."""
        body = b"\n".join(self._lines)
        return Call("POST", "/v1/tasks/batch", body=body, content_type=LINES)

    def read(self, answer: Answer) -> list[PushedTask]:
        """Return the pushed tasks."""
        result = read_answer(answer, BatchAnswer)
        existing = {index for index in result.existing if self._may_exist[index]}
        return [PushedTask(id, index in existing) for index, id in enumerate(result.ids)]

    def has_room_for(self, line: bytes) -> bool:
        if not self.tasks:
            return True
        return len(self.tasks) < MAX_TASKS and self._size + len(line) <= MAX_BYTES

    def add(self, task: NewTask, line: bytes, *, may_exist: bool) -> None:
        """Add a task; ``may_exist`` says whether an earlier push may have created it."""
        self.tasks.append(task)
        self._lines.append(line)
        self._may_exist.append(may_exist)
        self._size += len(line) + 1


def slices(tasks: Iterable[NewTask], *, new_key: Callable[[], str]) -> Iterator[Slice]:
    """Yield tasks in slices; each task without a key gets one."""
    current = Slice()
    for given in tasks:
        task = keyed(given, new_key)
        line = encode_task(task)
        if not current.has_room_for(line):
            yield current
            current = Slice()
        current.add(task, line, may_exist=given.key is not None or given.unique is not None)
    if current.tasks:
        yield current


def batch_failed(
    slice: Slice, remaining: Iterable[Slice], pushed: Sequence[PushedTask], cause: ClientError
) -> ClientError:
    """Return the error for a slice that was not pushed, with the tasks of the slices after it."""
    if not pushed and is_refusal(cause):
        return cause
    others = [task for later in remaining for task in later.tasks]
    return PushFailed([*slice.tasks, *others], cause, pushed)
