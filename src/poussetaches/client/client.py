"""Clients of the server's API: ``Client`` blocks, ``AsyncClient`` is awaited.

Both make the same requests (``requests.py``) and differ in how one is made, and in nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar, Unpack

from poussetaches.client import requests, results
from poussetaches.client.async_client import AsyncClient
from poussetaches.client.durations import Seconds, in_seconds
from poussetaches.client.effort import Effort
from poussetaches.client.errors import ClientError, NoAnswer, Refused
from poussetaches.client.fields import (
    DeclaredSchedule,
    Filter,
    PushFields,
    QueueFields,
    ScheduleFields,
    TaskPatch,
)
from poussetaches.client.installation import warn_of_original
from poussetaches.client.pushing import batch_failed, key_maker, push_failed
from poussetaches.client.results import NewTask, ProgressReport, PushedTask, TaskInfo
from poussetaches.client.server_sent import OK, SILENCE, EventReader
from poussetaches.client.slices import keyed, slices
from poussetaches.client.transport import HttpTransport, Transport
from poussetaches.client.wire import Request, check_events, refusal, with_body

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")


class Client:
    """A client that blocks. It may be used by many threads, and on both sides of a fork.

    ``url`` and ``token`` are read from ``POUSSETACHES_URL`` and ``POUSSETACHES_API_TOKEN`` (or
    ``…_FILE``) when they are None, at the first call. A call ends within ``timeout`` seconds, a
    push within ``push_timeout``.

    Every method raises ``NoAnswer`` when the server does not answer, and ``Refused``, or one of
    its kinds, when it answers with a problem.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: Seconds = 10.0,
        push_timeout: Seconds = 2.0,
        transport: Transport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        warn_of_original()
        self._transport = HttpTransport(url, token) if transport is None else transport
        self._timeout = in_seconds(timeout)
        self.push_timeout = in_seconds(push_timeout)
        self._monotonic = monotonic
        self._sleep = sleep
        self._new_key = key_maker(entropy)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str | None:
        """The server's URL without credentials; None if calls go through another transport."""
        return self._transport.url if isinstance(self._transport, HttpTransport) else None

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # Pushing

    def push(self, url: str, **fields: Unpack[PushFields]) -> PushedTask:
        """Push a task; the server has it on disk when this returns.

        A lost answer makes no second task: the push is repeated with a key of its own. All of it
        ends within ``push_timeout`` seconds.

        Raises:
            PushFailed: the server is away, frozen, full or in trouble, or another program answers
                at its URL; the task is in it.
            Refused: the server refuses the push, and would again: ``InvalidRequest`` for a value
                that is not allowed, ``Conflict`` if its ``key`` stands for another push,
                ``Unauthorized`` for a missing or wrong token.
        """
        given = NewTask(url, **fields)
        task = keyed(given, self._new_key)
        request = requests.push(task, own_key=None if given.key else task.key)
        try:
            return self._persist(request, self.push_timeout)
        except ClientError as exc:
            raise push_failed(task, exc) from exc

    def push_many(
        self, tasks: Iterable[NewTask], *, timeout: Seconds | None = None
    ) -> Sequence[PushedTask]:
        """Push tasks in slices of up to 10,000, each whole or not at all.

        Each slice ends within ``timeout`` seconds (default: the client's timeout). A lost answer
        makes no task twice.

        Raises:
            PushFailed: a slice was not pushed; those before it were, and are in it.
            Refused: the first slice has a task that is not allowed, so nothing was pushed.
        """
        seconds = self._timeout if timeout is None else in_seconds(timeout)
        pushed: list[PushedTask] = []
        remaining = slices(tasks, new_key=self._new_key)
        for slice in remaining:
            try:
                done = self._persist(slice.request, seconds)
            except ClientError as exc:
                raise batch_failed(slice, remaining, pushed, exc) from exc
            pushed += done
        return pushed

    # Looking at tasks

    def get(self, id: str) -> TaskInfo:
        """Return a task with its attempts and, while it waits, what it waits for.

        Raises:
            NotFound: there is none with this id.
        """
        return self._do(requests.task(id))

    def wait(self, id: str, timeout: Seconds) -> TaskInfo:
        """Return a task when it has ended, or as it is after ``timeout`` seconds.

        Raises:
            NotFound: there is none with this id.
            NoAnswer: the server has not answered to the end of that time.
        """
        effort = Effort(in_seconds(timeout), monotonic=self._monotonic)
        while True:
            poll = min(effort.left, requests.LONGEST_POLL)
            try:
                task = self._do(requests.task(id, wait=poll))
            except (NoAnswer, Refused) as exc:
                self._sleep(effort.pause_after(exc))
                continue
            if task.has_ended or not effort.left:
                return task

    def list(self, filter: Filter | None = None, *, page_size: int = 100) -> Iterator[TaskInfo]:
        """Yield the tasks that a filter selects, the one pushed last first, page by page."""
        cursor = None
        while True:
            page = self._do(requests.tasks(filter or {}, limit=page_size, cursor=cursor))
            yield from page.tasks
            cursor = page.next_cursor
            if cursor is None:
                return

    def failures(
        self, state: Literal["dead", "failing"] = "dead"
    ) -> Sequence[results.FailureGroup]:
        """Return the groups of dead, or of failing, tasks that are alike; the largest first."""
        return self._do(requests.failures(state))

    # Changing tasks

    def run(self, id: str, patch: TaskPatch | None = None) -> TaskInfo:
        """Make a waiting task due now, with changes.

        Raises:
            Conflict: it does not wait.
        """
        return self._do(requests.change(id, "run", patch))

    def requeue(self, id: str, patch: TaskPatch | None = None) -> TaskInfo:
        """Send a dead or succeeded task on a new round, with changes.

        Raises:
            Conflict: it has not ended.
        """
        return self._do(requests.change(id, "requeue", patch))

    def cancel(self, id: str) -> TaskInfo:
        """End a waiting task, or let a running one not be tried again.

        Raises:
            Conflict: it has ended.
        """
        return self._do(requests.change(id, "cancel"))

    def edit(self, id: str, patch: TaskPatch) -> TaskInfo:
        """Change a waiting or dead task by a merge patch: None resets.

        Raises:
            Conflict: it runs, or has succeeded.
        """
        return self._do(requests.edit(id, patch))

    def delete(self, id: str) -> None:
        """Delete a task in any state, with its attempts."""
        self._do(requests.delete(id))

    def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        """Report the progress of a running attempt, with the token of its delivery.

        Ends within ``push_timeout`` seconds.

        Raises:
            Conflict: the attempt is over.
        """
        self._do(requests.progress(id, token, report), self.push_timeout)

    def run_many(
        self,
        filter: Filter,
        *,
        set: TaskPatch | None = None,
        spread: Seconds | None = None,
        dry_run: bool = False,
        all: bool = False,
    ) -> results.BulkResult:
        """Make what a filter selects due now, or evenly over ``spread`` seconds.

        An empty filter needs ``all``. It may take up to ten minutes, and goes on without us.
        """
        return self._do(
            requests.change_many("run", filter, set=set, spread=spread, dry_run=dry_run, all=all)
        )

    def requeue_many(
        self,
        filter: Filter,
        *,
        set: TaskPatch | None = None,
        spread: Seconds | None = None,
        dry_run: bool = False,
        all: bool = False,
    ) -> results.BulkResult:
        """Send what a filter selects on a new round, evenly over ``spread`` seconds.

        An empty filter needs ``all``. It may take up to ten minutes, and goes on without us.
        """
        return self._do(
            requests.change_many(
                "requeue", filter, set=set, spread=spread, dry_run=dry_run, all=all
            )
        )

    def cancel_many(
        self, filter: Filter, *, dry_run: bool = False, all: bool = False
    ) -> results.BulkResult:
        """Cancel what a filter selects; see ``requeue_many``."""
        return self._do(requests.change_many("cancel", filter, dry_run=dry_run, all=all))

    def delete_many(
        self, filter: Filter, *, dry_run: bool = False, all: bool = False
    ) -> results.BulkResult:
        """Delete what a filter selects; see ``requeue_many``."""
        return self._do(requests.change_many("delete", filter, dry_run=dry_run, all=all))

    # Queues

    def queues(self) -> Sequence[results.QueueInfo]:
        """Return every queue, by name."""
        return self._do(requests.queues())

    def queue(self, name: str) -> results.QueueInfo:
        """Return a queue.

        Raises:
            NotFound: there is none of this name.
        """
        return self._do(requests.queue(name))

    def put_queue(self, name: str, **settings: Unpack[QueueFields]) -> results.QueueInfo:
        """Set all of a queue's settings; what is left out is the server's."""
        return self._do(requests.put_queue(name, settings))

    def edit_queue(self, name: str, **settings: Unpack[QueueFields]) -> results.QueueInfo:
        """Set some of a queue's settings; None resets. An unknown queue is made."""
        return self._do(requests.edit_queue(name, settings))

    def declare_queue(self, name: str, **settings: Unpack[QueueFields]) -> results.QueueInfo:
        """Declare the settings that the code has for a queue.

        An operator's changes stay until the code declares different settings.
        """
        return self._do(requests.declare_queue(name, settings))

    def delete_queue(self, name: str) -> None:
        """Delete a queue with its ended tasks.

        Raises:
            Conflict: it has waiting or running tasks, or is ``default``.
        """
        self._do(requests.delete_queue(name))

    def pause_queue(self, name: str) -> results.QueueInfo:
        """Start no more attempts of a queue's tasks."""
        return self._do(requests.set_queue_paused(name, "pause"))

    def resume_queue(self, name: str) -> results.QueueInfo:
        """Start attempts of a queue's tasks again."""
        return self._do(requests.set_queue_paused(name, "resume"))

    def purge_queue(self, name: str) -> int:
        """Delete a queue's waiting tasks; return how many there were."""
        return self._do(requests.purge_queue(name))

    # Schedules

    def schedules(self) -> Sequence[results.ScheduleInfo]:
        """Return the schedules of all owners, by name."""
        return self._do(requests.schedules())

    def put_schedules(
        self,
        owner: str,
        version: int | None,
        schedules: Iterable[DeclaredSchedule | Mapping[str, Any]],
    ) -> Sequence[results.ScheduleInfo]:
        """Declare all the schedules of an owner; those that are missing are deleted.

        Raises:
            Conflict: a name is another owner's, or a higher version was declared before.
        """
        return self._do(requests.put_schedules(owner, version, schedules))

    def declare_schedules(
        self,
        owner: str,
        version: int | None,
        schedules: Iterable[DeclaredSchedule | Mapping[str, Any]],
    ) -> results.DeclaredSchedules:
        """Declare the schedules of an owner, except those that the server refuses.

        Schedules that are missing are deleted. A refused one stays as it is on the server.

        Raises:
            Conflict: a higher version was declared before.
        """
        return self._do(requests.declare_schedules(owner, version, schedules))

    def schedule(self, name: str) -> results.ScheduleInfo:
        """Return a schedule.

        Raises:
            NotFound: there is none of this name.
        """
        return self._do(requests.schedule(name))

    def put_schedule(self, name: str, **fields: Unpack[ScheduleFields]) -> results.ScheduleInfo:
        """Define a schedule; of a known one, pause and history stay."""
        return self._do(requests.put_schedule(name, fields))

    def edit_schedule(self, name: str, patch: Mapping[str, Any]) -> results.ScheduleInfo:
        """Change a schedule by a merge patch: None resets."""
        return self._do(requests.edit_schedule(name, patch))

    def delete_schedule(self, name: str) -> None:
        """Delete a schedule and its waiting runs."""
        self._do(requests.delete_schedule(name))

    def run_schedule(self, name: str) -> TaskInfo:
        """Make a run of a schedule now; its times stay as they are."""
        return self._do(requests.run_schedule(name))

    def schedule_runs(self, name: str, *, page_size: int = 100) -> Iterator[TaskInfo]:
        """Yield the runs of a schedule, the latest first, page by page."""
        cursor = None
        while True:
            page = self._do(requests.runs(name, limit=page_size, cursor=cursor))
            yield from page.tasks
            cursor = page.next_cursor
            if cursor is None:
                return

    def pause_schedule(self, name: str) -> results.ScheduleInfo:
        """Make no more runs of a schedule."""
        return self._do(requests.set_schedule_paused(name, "pause"))

    def resume_schedule(self, name: str) -> results.ScheduleInfo:
        """Make runs of a schedule again; the pause is not made up for."""
        return self._do(requests.set_schedule_paused(name, "resume"))

    def preview(
        self, cron: str, *, timezone: str = "UTC", count: int = 5
    ) -> Sequence[results.Occurrence]:
        """Return the next occurrences of an expression that begins to count now."""
        return self._do(requests.preview(cron, timezone, count))

    # Operations

    def pause(self) -> bool:
        """Start no more attempts at all; return whether the server is paused."""
        return self._do(requests.set_paused("pause"))

    def resume(self) -> bool:
        """Start attempts again; return whether the server is paused."""
        return self._do(requests.set_paused("resume"))

    def stats(self, minutes: int = 60, *, queue: str | None = None) -> results.StatsInfo:
        """Return the server at a glance, and what happened in the last minutes."""
        return self._do(requests.stats(minutes, queue))

    def events(
        self, queue: str | None = None, *, last_event_id: str | None = None
    ) -> Generator[results.Event, None, None]:
        """Yield what happens from now on, or after an event, without end.

        When the connection is lost it is made anew, and goes on where it was.

        Raises:
            NoAnswer: the server was not reached at first.
        """
        reader, connected = EventReader(last_event_id), False
        while True:
            call = requests.events(queue, reader.last_id)
            try:
                with self._transport.stream(call, silence=SILENCE) as stream:
                    if stream.head.status != OK:
                        raise refusal(with_body(stream.head, b"".join(stream.pieces())))
                    check_events(stream.head)
                    connected = True
                    for piece in stream.pieces():
                        yield from reader.feed(piece)
            except (NoAnswer, Refused) as exc:
                reader.check_lost(exc, connected=connected)
            self._sleep(reader.next_pause())

    # How a request is made

    def _do(self, request: Request[T], timeout: float | None = None) -> T:
        seconds = max(self._timeout, request.patience) if timeout is None else timeout
        return request.read(self._transport.send(request.call, timeout=seconds))

    def _persist(self, request: Request[T], seconds: float) -> T:
        """Make a request, again and again while there is time and sense in it."""
        effort = Effort(seconds, monotonic=self._monotonic)
        while True:
            try:
                return self._do(request, effort.timeout)
            except (NoAnswer, Refused) as exc:
                self._sleep(effort.pause_after(exc))
