"""Slices of tasks that the server takes in one request each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from poussetaches.client.arguments import ArgumentError
from poussetaches.client.call import Call
from poussetaches.client.errors import ClientError, FieldError, PushFailed, Refused
from poussetaches.client.request_fields import NewTask
from poussetaches.client.results import PushedTask
from poussetaches.client.server_answer import Answer, read_answer
from poussetaches.client.single_push import encode_task, is_refusal, keyed
from poussetaches.core.responses import BatchAnswer

LINES = "application/x-ndjson"
MAX_TASKS = 10_000  # the server's limit
_LINE = re.compile(r"^line (?P<number>[0-9]+)(?P<field>: )?")
MAX_BYTES = 8 * 1024 * 1024  # the server takes 64 MiB, but smaller slices are faster


class Slice:
    """Tasks that are pushed together; ``first`` is the place of the first one in the list."""

    def __init__(self, first: int) -> None:
        self.first = first
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


def slices(tasks: Iterable[NewTask], *, new_key: Callable[[], str]) -> list[Slice]:
    """Return tasks in slices; each task without a key gets one.

    Raises:
        ArgumentError: one of them is not a ``NewTask``, or has no JSON; the error has its place.
    """
    found: list[Slice] = []
    for place, given in enumerate(tasks):
        if not isinstance(given, NewTask):
            raise ArgumentError(f"tasks[{place}]", f"{given!r} is not a NewTask")
        task = keyed(given, new_key)
        try:
            line = encode_task(task)
        except ArgumentError as exc:
            path = f"tasks[{place}].{exc.argument}" if exc.argument else f"tasks[{place}]"
            raise ArgumentError(path, exc.reason) from exc
        if not found or not found[-1].has_room_for(line):
            found.append(Slice(place))
        found[-1].add(task, line, may_exist=given.key is not None or given.unique is not None)
    return found


def batch_failed(
    remaining: Sequence[Slice], pushed: Sequence[PushedTask], cause: ClientError
) -> ClientError:
    """Return the error for the first of the remaining slices, which was not pushed."""
    if not pushed and is_refusal(cause):
        return cause
    return PushFailed([task for slice in remaining for task in slice.tasks], cause, pushed)


def placed(cause: ClientError, slice: Slice) -> ClientError:
    """Return an error with places in the caller's list instead of lines of a slice's request."""
    if not isinstance(cause, Refused):
        return cause

    def place(line: re.Match[str]) -> str:
        return f"tasks[{slice.first + int(line['number']) - 1}]" + ("." if line["field"] else "")

    return type(cause)(
        cause.status,
        code=cause.code,
        title=cause.title,
        detail=_LINE.sub(place, cause.detail),
        errors=[FieldError(_LINE.sub(place, it.field), it.reason) for it in cause.errors],
        retry_after=cause.retry_after,
    )
