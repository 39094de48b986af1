"""The clients' methods for tasks: push, read, edit, and edit in bulk."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Literal, Unpack

from poussetaches.client.batch_push import batch_failed, placed, slices
from poussetaches.client.call import Call, filter_query, path_of
from poussetaches.client.caller import BULK_TIMEOUT, Caller
from poussetaches.client.dual_method import dual_iterator, dual_method
from poussetaches.client.durations import Seconds, in_seconds
from poussetaches.client.errors import ClientError, NoAnswer, Refused
from poussetaches.client.request_fields import Filter, NewTask, PushFields, TaskPatch
from poussetaches.client.request_json import encode_request
from poussetaches.client.results import (
    BulkResult,
    FailureGroup,
    FailureList,
    ProgressReport,
    PushedTask,
    TaskInfo,
)
from poussetaches.client.retry_timer import RetryTimer
from poussetaches.client.server_answer import check_empty
from poussetaches.client.single_push import encode_task, keyed, push_failed, read_pushed
from poussetaches.core.progress_report import ATTEMPT_TOKEN

TASKS = "/v1/tasks"
MAX_POLL = 60.0  # seconds, the server's limit
POLL_DELAY = 10.0  # seconds by which the answer to a long poll may be late


class TaskMethods(Caller):
    """Methods for tasks."""

    @dual_method
    async def push(self, url: str, **fields: Unpack[PushFields]) -> PushedTask:
        """Push a task; the server has it on disk when this returns.

        The push is retried, for at most ``push_timeout`` seconds in all. A retry never creates a
        second task, because every push has a key.

        Raises:
            PushFailed: the server cannot be reached, does not respond, is full or has a problem
                with its disk, or another program answers at its URL. The error has the task.
            Refused: the server refuses the push, and would refuse it again: ``InvalidRequest``
                for a value that is not allowed, ``Conflict`` if its ``key`` belongs to another
                push, ``Unauthorized`` for a missing or wrong token.
        """
        given = NewTask(url, **fields)
        task = keyed(given, self._new_key)
        call = Call("POST", TASKS, body=encode_task(task))
        try:
            answer = await self._send_until_done(call, self.push_timeout)
            return read_pushed(answer, own_key=None if given.key else task.key)
        except ClientError as exc:
            raise push_failed(task, exc) from exc

    @dual_method
    async def push_many(
        self,
        tasks: Iterable[NewTask],
        *,
        timeout: Seconds | None = None,  # noqa: ASYNC109  # of each slice
    ) -> Sequence[PushedTask]:
        """Push tasks in slices of up to 10,000; each slice is pushed completely or not at all.

        All tasks are encoded before the first slice is pushed. Each slice takes at most
        ``timeout`` seconds (default: the client's timeout). A retry never creates a task twice.

        Raises:
            ArgumentError: a task is not a ``NewTask`` or has no JSON. Nothing was pushed.
            PushFailed: a slice was not pushed. The error has its tasks and those after it, and
                the tasks that were pushed before.
            Refused: a task of the first slice is not allowed. Nothing was pushed.
        """
        seconds = self._timeout if timeout is None else in_seconds(timeout)
        pushed: list[PushedTask] = []
        found = slices(tasks, new_key=self._new_key)
        for number, slice in enumerate(found):
            try:
                done = slice.read(await self._send_until_done(slice.call, seconds))
            except ClientError as exc:
                cause = placed(exc, slice)
                raise batch_failed(found[number:], pushed, cause) from cause
            pushed += done
        return pushed

    @dual_method
    async def get(self, id: str) -> TaskInfo:
        """Return a task with its attempts and, if it is waiting, the reasons.

        Raises:
            NotFound: there is no task with this id.
        """
        return await self._read(Call("GET", path_of(TASKS, id)), TaskInfo)

    @dual_method
    async def wait(self, id: str, timeout: Seconds) -> TaskInfo:  # noqa: ASYNC109  # the server waits
        """Wait until a task has ended, for at most ``timeout`` seconds, and return the task.

        Raises:
            NotFound: there is no task with this id.
            NoAnswer: the server could not be reached until the time was over.
        """
        timer = RetryTimer(in_seconds(timeout), monotonic=self._monotonic)
        while True:
            poll = min(timer.left, MAX_POLL)
            call = Call("GET", path_of(TASKS, id), (("wait", f"{poll:.3f}"),))
            try:
                task = await self._read(call, TaskInfo, min_timeout=poll + POLL_DELAY)
            except (NoAnswer, Refused) as exc:
                await self._sleep(timer.pause_after(exc))
                continue
            if task.has_ended or not timer.left:
                return task

    @dual_iterator
    def list(
        self, filter: Filter | None = None, *, page_size: int = 100
    ) -> AsyncGenerator[TaskInfo, None]:
        """Yield the tasks that match a filter, newest first; pages are fetched as needed."""
        return self._pages(TASKS, filter_query(filter or {}), page_size=page_size)

    @dual_method
    async def failures(self, state: Literal["dead", "failing"] = "dead") -> Sequence[FailureGroup]:
        """Return the groups of similar dead, or failing, tasks; the largest group first."""
        call = Call("GET", "/v1/failures", (("state", state),))
        return (await self._read(call, FailureList)).groups

    @dual_method
    async def run(self, id: str, patch: TaskPatch | None = None) -> TaskInfo:
        """Make a waiting task due now, and change it first if a patch is given.

        Raises:
            Conflict: the task is not waiting.
        """
        return await self._change(id, "run", patch)

    @dual_method
    async def requeue(self, id: str, patch: TaskPatch | None = None) -> TaskInfo:
        """Start a new round of a dead or succeeded task, and change it first if a patch is given.

        Raises:
            Conflict: the task has not ended.
        """
        return await self._change(id, "requeue", patch)

    @dual_method
    async def cancel(self, id: str) -> TaskInfo:
        """End a waiting task, or prevent retries of a running one.

        Raises:
            Conflict: the task has ended.
        """
        return await self._change(id, "cancel", None)

    @dual_method
    async def edit(self, id: str, patch: TaskPatch) -> TaskInfo:
        """Change a waiting or dead task by a merge patch; None resets a field.

        Raises:
            Conflict: the task is running, or has succeeded.
        """
        call = Call("PATCH", path_of(TASKS, id), body=encode_request(patch))
        return await self._read(call, TaskInfo)

    @dual_method
    async def delete(self, id: str) -> None:
        """Delete a task in any state, with its attempts."""
        await self._do(Call("DELETE", path_of(TASKS, id)))

    @dual_method
    async def report_progress(self, id: str, token: str, report: ProgressReport) -> None:
        """Report the progress of a running attempt, with the token from its delivery.

        This takes at most ``push_timeout`` seconds.

        Raises:
            Conflict: the attempt has ended.
        """
        body = encode_request({"done": report.done, "total": report.total, "note": report.note})
        headers = ((ATTEMPT_TOKEN, token),)
        call = Call("POST", path_of(TASKS, id, "progress"), body=body, headers=headers)
        check_empty(await self._send(call, self.push_timeout))

    @dual_method
    async def run_many(
        self,
        filter: Filter,
        *,
        set: TaskPatch | None = None,
        spread: Seconds | None = None,
        dry_run: bool = False,
        all: bool = False,
    ) -> BulkResult:
        """Make all matching waiting tasks due now, or evenly over ``spread`` seconds.

        An empty filter requires ``all``. The call takes up to ten minutes; the server finishes
        it even if the connection is lost.
        """
        given = {"set": set, "spread": spread}
        return await self._change_many("run", filter, given, dry_run=dry_run, all=all)

    @dual_method
    async def requeue_many(
        self,
        filter: Filter,
        *,
        set: TaskPatch | None = None,
        spread: Seconds | None = None,
        dry_run: bool = False,
        all: bool = False,
    ) -> BulkResult:
        """Start a new round of all matching ended tasks, evenly over ``spread`` seconds.

        An empty filter requires ``all``. The call takes up to ten minutes; the server finishes
        it even if the connection is lost.
        """
        given = {"set": set, "spread": spread}
        return await self._change_many("requeue", filter, given, dry_run=dry_run, all=all)

    @dual_method
    async def cancel_many(
        self, filter: Filter, *, dry_run: bool = False, all: bool = False
    ) -> BulkResult:
        """Cancel all matching tasks; ``all`` is as in ``requeue_many``."""
        return await self._change_many("cancel", filter, {}, dry_run=dry_run, all=all)

    @dual_method
    async def delete_many(
        self, filter: Filter, *, dry_run: bool = False, all: bool = False
    ) -> BulkResult:
        """Delete all matching tasks; ``all`` is as in ``requeue_many``."""
        return await self._change_many("delete", filter, {}, dry_run=dry_run, all=all)

    async def _change(self, id: str, verb: str, patch: TaskPatch | None) -> TaskInfo:
        body = b"" if patch is None else encode_request(patch)
        return await self._read(Call("POST", path_of(TASKS, id, verb), body=body), TaskInfo)

    async def _change_many(
        self,
        verb: str,
        filter: Filter,
        optional: Mapping[str, object],
        *,
        dry_run: bool,
        all: bool,
    ) -> BulkResult:
        given = {name: value for name, value in optional.items() if value is not None}
        document = {"filter": filter, "all": all, "dry_run": dry_run, **given}
        call = Call("POST", f"{TASKS}/{verb}", body=encode_request(document))
        return await self._read(call, BulkResult, min_timeout=BULK_TIMEOUT)
