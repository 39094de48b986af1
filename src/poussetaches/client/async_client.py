"""``AsyncClient``: a client of the server's API for asynchronous code."""

from __future__ import annotations

import os
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, Literal, Self, TypeVar, Unpack

from poussetaches.client import requests, results
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
from poussetaches.client.transport import AsyncHttpTransport, AsyncTransport
from poussetaches.client.wire import Request, check_events, refusal, with_body

T = TypeVar("T")


async def sleep(seconds: float) -> None:
    import asyncio  # noqa: PLC0415  # 50 ms, for those who only block

    await asyncio.sleep(seconds)


class AsyncClient:
    """What ``Client`` is, for asynchronous code: the same methods, which are awaited.

    It may be used from any event loop, but not by a process that was forked after its first
    call. ``events``, ``list`` and ``schedule_runs`` are iterated with ``async for``.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: Seconds = 10.0,
        push_timeout: Seconds = 2.0,
        transport: AsyncTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = sleep,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        warn_of_original()
        self._transport = AsyncHttpTransport(url, token) if transport is None else transport
        self._timeout = in_seconds(timeout)
        self.push_timeout = in_seconds(push_timeout)
        self._monotonic = monotonic
        self._sleep = sleep
        self._new_key = key_maker(entropy)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    # Pushing

    async def push(self, url: str, **fields: Unpack[PushFields]) -> PushedTask:
        """Push a task; the server has it on disk when this returns."""
        given = NewTask(url, **fields)
        task = keyed(given, self._new_key)
        request = requests.push(task, own_key=None if given.key else task.key)
        try:
            return await self._persist(request, self.push_timeout)
        except ClientError as exc:
            raise push_failed(task, exc) from exc

    async def push_many(
        self,
        tasks: Iterable[NewTask],
        *,
        timeout: Seconds | None = None,  # noqa: ASYNC109  # as Client has it
    ) -> Sequence[PushedTask]:
        """Push tasks in slices of up to 10,000, each whole or not at all."""
        seconds = self._timeout if timeout is None else in_seconds(timeout)
        pushed: list[PushedTask] = []
        remaining = slices(tasks, new_key=self._new_key)
        for slice in remaining:
            try:
                done = await self._persist(slice.request, seconds)
            except ClientError as exc:
                raise batch_failed(slice, remaining, pushed, exc) from exc
            pushed += done
        return pushed

    # Looking at tasks

    async def get(self, id: str) -> TaskInfo:
        """Return a task with its attempts and, while it waits, what it waits for."""
        return await self._do(requests.task(id))

    async def wait(self, id: str, timeout: Seconds) -> TaskInfo:  # noqa: ASYNC109  # the server waits
        """Return a task when it has ended, or as it is after ``timeout`` seconds."""
        effort = Effort(in_seconds(timeout), monotonic=self._monotonic)
        while True:
            poll = min(effort.left, requests.LONGEST_POLL)
            try:
                task = await self._do(requests.task(id, wait=poll))
            except (NoAnswer, Refused) as exc:
                await self._sleep(effort.pause_after(exc))
                continue
            if task.has_ended or not effort.left:
                return task

    async def list(
        self, filter: Filter | None = None, *, page_size: int = 100
    ) -> AsyncIterator[TaskInfo]:
        """Yield the tasks that a filter selects, the one pushed last first, page by page."""
        cursor = None
        while True:
            page = await self._do(requests.tasks(filter or {}, limit=page_size, cursor=cursor))
            for task in page.tasks:
                yield task
            cursor = page.next_cursor
            if cursor is None:
                return

    async def failures(
        self, state: Literal["dead", "failing"] = "dead"
    ) -> Sequence[results.FailureGroup]:
        """Return the groups of dead, or of failing, tasks that are alike; the largest first."""
        return await self._do(requests.failures(state))

    # Changing tasks

    async def run(self, id: str, patch: TaskPatch | None = None) -> TaskInfo:
        """Make a waiting task due now, with changes."""
        return await self._do(requests.change(id, "run", patch))

    async def requeue(self, id: str, patch: TaskPatch | None = None) -> TaskInfo:
        """Send a dead or succeeded task on a new round, with changes."""
        return await self._do(requests.change(id, "requeue", patch))

    async def cancel(self, id: str) -> TaskInfo:
        """End a waiting task, or let a running one not be tried again."""
        return await self._do(requests.change(id, "cancel"))

    async def edit(self, id: str, patch: TaskPatch) -> TaskInfo:
        """Change a waiting or dead task by a merge patch: None resets."""
        return await self._do(requests.edit(id, patch))

    async def delete(self, id: str) -> None:
        """Delete a task in any state, with its attempts."""
        await self._do(requests.delete(id))

    async def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        """Report the progress of a running attempt, with the token of its delivery."""
        await self._do(requests.progress(id, token, report), self.push_timeout)

    async def run_many(
        self,
        filter: Filter,
        *,
        set: TaskPatch | None = None,
        spread: Seconds | None = None,
        dry_run: bool = False,
        all: bool = False,
    ) -> results.BulkResult:
        """Make what a filter selects due now, or evenly over ``spread`` seconds."""
        return await self._do(
            requests.change_many("run", filter, set=set, spread=spread, dry_run=dry_run, all=all)
        )

    async def requeue_many(
        self,
        filter: Filter,
        *,
        set: TaskPatch | None = None,
        spread: Seconds | None = None,
        dry_run: bool = False,
        all: bool = False,
    ) -> results.BulkResult:
        """Send what a filter selects on a new round, evenly over ``spread`` seconds."""
        return await self._do(
            requests.change_many(
                "requeue", filter, set=set, spread=spread, dry_run=dry_run, all=all
            )
        )

    async def cancel_many(
        self, filter: Filter, *, dry_run: bool = False, all: bool = False
    ) -> results.BulkResult:
        """Cancel what a filter selects; see ``requeue_many``."""
        return await self._do(requests.change_many("cancel", filter, dry_run=dry_run, all=all))

    async def delete_many(
        self, filter: Filter, *, dry_run: bool = False, all: bool = False
    ) -> results.BulkResult:
        """Delete what a filter selects; see ``requeue_many``."""
        return await self._do(requests.change_many("delete", filter, dry_run=dry_run, all=all))

    # Queues

    async def queues(self) -> Sequence[results.QueueInfo]:
        """Return every queue, by name."""
        return await self._do(requests.queues())

    async def queue(self, name: str) -> results.QueueInfo:
        """Return a queue."""
        return await self._do(requests.queue(name))

    async def put_queue(self, name: str, **settings: Unpack[QueueFields]) -> results.QueueInfo:
        """Set all of a queue's settings; what is left out is the server's."""
        return await self._do(requests.put_queue(name, settings))

    async def edit_queue(self, name: str, **settings: Unpack[QueueFields]) -> results.QueueInfo:
        """Set some of a queue's settings; None resets. An unknown queue is made."""
        return await self._do(requests.edit_queue(name, settings))

    async def declare_queue(self, name: str, **settings: Unpack[QueueFields]) -> results.QueueInfo:
        """Declare the settings that the code has for a queue."""
        return await self._do(requests.declare_queue(name, settings))

    async def delete_queue(self, name: str) -> None:
        """Delete a queue with its ended tasks."""
        await self._do(requests.delete_queue(name))

    async def pause_queue(self, name: str) -> results.QueueInfo:
        """Start no more attempts of a queue's tasks."""
        return await self._do(requests.set_queue_paused(name, "pause"))

    async def resume_queue(self, name: str) -> results.QueueInfo:
        """Start attempts of a queue's tasks again."""
        return await self._do(requests.set_queue_paused(name, "resume"))

    async def purge_queue(self, name: str) -> int:
        """Delete a queue's waiting tasks; return how many there were."""
        return await self._do(requests.purge_queue(name))

    # Schedules

    async def schedules(self) -> Sequence[results.ScheduleInfo]:
        """Return the schedules of all owners, by name."""
        return await self._do(requests.schedules())

    async def put_schedules(
        self,
        owner: str,
        version: int | None,
        schedules: Iterable[DeclaredSchedule | Mapping[str, Any]],
    ) -> Sequence[results.ScheduleInfo]:
        """Declare all the schedules of an owner; those that are missing are deleted."""
        return await self._do(requests.put_schedules(owner, version, schedules))

    async def declare_schedules(
        self,
        owner: str,
        version: int | None,
        schedules: Iterable[DeclaredSchedule | Mapping[str, Any]],
    ) -> results.DeclaredSchedules:
        """Declare the schedules of an owner, except those that the server refuses."""
        return await self._do(requests.declare_schedules(owner, version, schedules))

    async def schedule(self, name: str) -> results.ScheduleInfo:
        """Return a schedule."""
        return await self._do(requests.schedule(name))

    async def put_schedule(
        self, name: str, **fields: Unpack[ScheduleFields]
    ) -> results.ScheduleInfo:
        """Define a schedule; of a known one, pause and history stay."""
        return await self._do(requests.put_schedule(name, fields))

    async def edit_schedule(self, name: str, patch: Mapping[str, Any]) -> results.ScheduleInfo:
        """Change a schedule by a merge patch: None resets."""
        return await self._do(requests.edit_schedule(name, patch))

    async def delete_schedule(self, name: str) -> None:
        """Delete a schedule and its waiting runs."""
        await self._do(requests.delete_schedule(name))

    async def run_schedule(self, name: str) -> TaskInfo:
        """Make a run of a schedule now; its times stay as they are."""
        return await self._do(requests.run_schedule(name))

    async def schedule_runs(self, name: str, *, page_size: int = 100) -> AsyncIterator[TaskInfo]:
        """Yield the runs of a schedule, the latest first, page by page."""
        cursor = None
        while True:
            page = await self._do(requests.runs(name, limit=page_size, cursor=cursor))
            for task in page.tasks:
                yield task
            cursor = page.next_cursor
            if cursor is None:
                return

    async def pause_schedule(self, name: str) -> results.ScheduleInfo:
        """Make no more runs of a schedule."""
        return await self._do(requests.set_schedule_paused(name, "pause"))

    async def resume_schedule(self, name: str) -> results.ScheduleInfo:
        """Make runs of a schedule again; the pause is not made up for."""
        return await self._do(requests.set_schedule_paused(name, "resume"))

    async def preview(
        self, cron: str, *, timezone: str = "UTC", count: int = 5
    ) -> Sequence[results.Occurrence]:
        """Return the next occurrences of an expression that begins to count now."""
        return await self._do(requests.preview(cron, timezone, count))

    # Operations

    async def pause(self) -> bool:
        """Start no more attempts at all; return whether the server is paused."""
        return await self._do(requests.set_paused("pause"))

    async def resume(self) -> bool:
        """Start attempts again; return whether the server is paused."""
        return await self._do(requests.set_paused("resume"))

    async def stats(self, minutes: int = 60, *, queue: str | None = None) -> results.StatsInfo:
        """Return the server at a glance, and what happened in the last minutes."""
        return await self._do(requests.stats(minutes, queue))

    async def events(
        self, queue: str | None = None, *, last_event_id: str | None = None
    ) -> AsyncGenerator[results.Event, None]:
        """Yield what happens from now on, or after an event, without end."""
        reader, connected = EventReader(last_event_id), False
        while True:
            call = requests.events(queue, reader.last_id)
            try:
                async with self._transport.stream(call, silence=SILENCE) as stream:
                    if stream.head.status != OK:
                        body = b"".join([piece async for piece in stream.pieces()])
                        raise refusal(with_body(stream.head, body))
                    check_events(stream.head)
                    connected = True
                    async for piece in stream.pieces():
                        for event in reader.feed(piece):
                            yield event
            except (NoAnswer, Refused) as exc:
                reader.check_lost(exc, connected=connected)
            await self._sleep(reader.next_pause())

    # How a request is made

    async def _do(
        self,
        request: Request[T],
        timeout: float | None = None,  # noqa: ASYNC109  # of the call
    ) -> T:
        seconds = max(self._timeout, request.patience) if timeout is None else timeout
        return request.read(await self._transport.send(request.call, timeout=seconds))

    async def _persist(self, request: Request[T], seconds: float) -> T:
        """Make a request, again and again while there is time and sense in it."""
        effort = Effort(seconds, monotonic=self._monotonic)
        while True:
            try:
                return await self._do(request, effort.timeout)
            except (NoAnswer, Refused) as exc:
                await self._sleep(effort.pause_after(exc))
