"""The tasks, one by one: push, look, change, send again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import Endpoint, TaskId, answer, read_query
from poussetaches.api.engine_view import EngineView
from poussetaches.api.filters import REPEATED, FilterFields
from poussetaches.api.pushing import Pushing, build_push
from poussetaches.api.reading import decode, invalid, read_body
from poussetaches.api.request_limits import RequestLimits
from poussetaches.api.task_patch import changes_of
from poussetaches.api.views import (
    ListedTask,
    PrunedTask,
    TaskDetail,
    TaskOrPruned,
    TaskView,
    list_views,
    task_detail,
    task_view,
)
from poussetaches.api.watch import ENDED, TaskWatch, ended_or_gone
from poussetaches.core.changes import Changes
from poussetaches.core.edits import Cancel, Delete, Edit, Patch, Requeue, Run
from poussetaches.core.errors import TaskNotFound
from poussetaches.core.filter import TaskFilter
from poussetaches.core.merge_patch import Document
from poussetaches.core.moment import Moment
from poussetaches.core.task import Task, TaskState
from poussetaches.core.task_fields import TaskChanges, TaskFields
from poussetaches.core.wait_reason import WaitingFor, WaitReason
from poussetaches.store.base import Pushed, Store

TAG = "Tasks"
LONGEST_WAIT = 60  # seconds; of a request for a task's end
MOST_AHEAD = 1000  # tasks that are counted in front of another
PAGES = 5  # of the store that are read for one of ours: a text is rarely found in the first

Limit = Annotated[int, Meta(ge=1, le=1000)]
Cursor = Annotated[str, Meta(max_length=20)]

_LARGEST = 2**63  # of the numbers that a store gives out


class ListQuery(FilterFields, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which tasks to list, and how many of them."""

    limit: Limit = 100
    cursor: Cursor | None = None


class DetailQuery(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How many seconds to wait for the task to end."""

    wait: Annotated[float, Meta(ge=0, le=LONGEST_WAIT)] = 0.0


class TaskList(msgspec.Struct, frozen=True):
    """Some tasks, the one pushed last first, and where to go on."""

    tasks: list[ListedTask]
    next_cursor: str | None


class TaskRoutes:
    """Serves tasks from the store."""

    def __init__(
        self,
        *,
        store: Store,
        engine: EngineView,
        pushing: Pushing,
        watch: TaskWatch,
        request_limits: RequestLimits,
        now: Callable[[], Moment],
        max_body: int,
        max_request: int,
        secret_headers: frozenset[str],
    ) -> None:
        self._store = store
        self._engine = engine
        self._pushing = pushing
        self._watch = watch
        self._request_limits = request_limits
        self._now = now
        self._max_body = max_body
        self._max_request = max_request
        self._secret_headers = secret_headers
        self._pushes = msgspec.json.Decoder(TaskFields)
        self._patches = msgspec.json.Decoder(Document)

    def endpoints(self) -> list[Endpoint]:
        """Return the rows of the API."""
        row = partial(Endpoint, tag=TAG)
        known = partial(row, parameters={"id": TaskId})
        change = partial(known, answers={200: TaskView}, body=TaskChanges, problems=(404, 409))
        one = "/v1/tasks/{id}"
        return [
            row(
                method="POST",
                path="/v1/tasks",
                handler=self.push,
                summary="Push a task",
                is_push=True,
                is_hot=True,
                body=TaskFields,
                answers={201: TaskView, 200: TaskOrPruned},
                answer_headers={
                    "Location": "The path of the task",
                    "Poussetaches-Task-ID": "The id of the task",
                    "Poussetaches-Existing": "true, when an earlier push had made the task",
                },
                problems=(409,),
            ),
            row(
                method="GET",
                path="/v1/tasks",
                handler=self.list_tasks,
                summary="List tasks, the one pushed last first",
                query=ListQuery,
                answers={200: TaskList},
            ),
            known(
                method="GET",
                path=one,
                handler=self.show,
                summary="Show a task, at once or when it has ended",
                query=DetailQuery,
                answers={200: TaskDetail},
                problems=(404,),
            ),
            change(
                method="PATCH", path=one, handler=self.patch, summary="Change a task (RFC 7396)"
            ),
            known(
                method="DELETE",
                path=one,
                handler=self.delete,
                summary="Delete a task, whatever its state",
                answers={204: None},
                problems=(404,),
            ),
            change(
                method="POST",
                path=one + "/run",
                handler=self.run,
                summary="Run a waiting task now, past delay, backoff and pause",
                body_is_optional=True,
            ),
            change(
                method="POST",
                path=one + "/requeue",
                handler=self.requeue,
                summary="Send an ended task on a new round",
                body_is_optional=True,
            ),
            known(
                method="POST",
                path=one + "/cancel",
                handler=self.cancel,
                summary="End a waiting task, or let a running one not be tried again",
                answers={200: TaskView},
                problems=(404, 409),
            ),
        ]

    async def push(self, request: Request) -> Response:
        """Store a task, or answer the one that an earlier push made."""
        fields = decode(self._pushes, await read_body(request, limit=self._max_request))
        push = build_push(self._pushing.builder(request), fields)
        [pushed] = await self._pushing.store([push])
        return self._answer_push(pushed)

    async def list_tasks(self, request: Request) -> Response:
        """List tasks, the one pushed last first."""
        query = read_query(request, ListQuery, many=REPEATED)
        page = await page_of(
            self._store, self._engine, query.filter(), limit=query.limit, cursor=query.cursor
        )
        return answer(page)

    async def show(self, request: Request) -> Response:
        """Answer a task with its attempts; when it has ended, if it is asked to wait."""
        query = read_query(request, DetailQuery)
        task_id: str = request.path_params["id"]
        task = await self._store.get(task_id)
        if task is not None and query.wait and task.state not in ENDED:
            await self._wait(request, task_id, query.wait)
            task = await self._store.get(task_id)
        if task is None:
            raise not_found(task_id)
        detail = task_detail(
            task,
            await self._store.attempts(task_id),
            await self._waiting_for(task),
            self._engine.progress_of(task_id),
            secret_headers=self._secret_headers,
        )
        return answer(detail)

    async def patch(self, request: Request) -> Response:
        """Change a task that waits or is dead."""
        changes, now = await self._read_changes(request)
        return await self._edit(request, Patch(changes), now)

    async def delete(self, request: Request) -> Response:
        """Delete a task."""
        task_id: str = request.path_params["id"]
        if await self._store.edit(task_id, Delete(), now=self._now()) is None:
            raise not_found(task_id)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def run(self, request: Request) -> Response:
        """Make a waiting task due, with the changes that come along."""
        changes, now = await self._read_changes(request)
        return await self._edit(request, Run(at=now, changes=changes), now)

    async def requeue(self, request: Request) -> Response:
        """Send an ended task on a new round, with the changes that come along."""
        changes, now = await self._read_changes(request)
        return await self._edit(request, Requeue(at=now, changes=changes), now)

    async def cancel(self, request: Request) -> Response:
        """End a waiting task, or let a running one not be tried again."""
        now = self._now()
        return await self._edit(request, Cancel(now), now)

    def _answer_push(self, pushed: Pushed) -> Response:
        view = (
            PrunedTask(id=pushed.task_id)
            if pushed.task is None
            else task_view(pushed.task, secret_headers=self._secret_headers)
        )
        headers = {
            "Location": f"/v1/tasks/{pushed.task_id}",
            "Poussetaches-Task-ID": pushed.task_id,
        }
        if not pushed.existing:
            return answer(view, HTTPStatus.CREATED, headers=headers)
        headers["Poussetaches-Existing"] = "true"
        return answer(view, headers=headers)

    async def _wait(self, request: Request, task_id: str, patience: float) -> None:
        with self._request_limits.parked(request.scope), self._watch.watching(task_id) as ending:
            # It may have ended before anybody watched.
            task = await self._store.get(task_id)
            if task is not None and task.state not in ENDED:
                await ended_or_gone(ending, request, patience=patience)

    async def _waiting_for(self, task: Task) -> list[WaitingFor] | None:
        if task.state is not TaskState.WAITING:
            return None
        found, now = self._engine.waiting_for(task), self._now()
        if task.run_at > now:
            return found
        ahead = await self._store.count_ahead(task.id, now=now, limit=MOST_AHEAD)
        if not ahead:
            return found
        number = f"{ahead} or more" if ahead == MOST_AHEAD else str(ahead)
        detail = f"{number} due tasks of its queue and origin come before it"
        return [*found, WaitingFor(reason=WaitReason.BEHIND, detail=detail, count=ahead)]

    async def _read_changes(self, request: Request) -> tuple[Changes, Moment]:
        """Return the changes that a request asks for, and the moment of the edit."""
        body = await read_body(request, limit=self._max_request)
        is_optional = request.method == "POST"
        patch = {} if is_optional and not body else decode(self._patches, body)
        now = self._now()
        return changes_of(patch, self._engine.queues, now=now, max_body=self._max_body), now

    async def _edit(self, request: Request, edit: Edit, now: Moment) -> Response:
        task_id: str = request.path_params["id"]
        task = await self._store.edit(task_id, edit, now=now)
        if task is None:
            raise not_found(task_id)
        return answer(task_view(task, secret_headers=self._secret_headers))


async def page_of(
    store: Store, engine: EngineView, filter: TaskFilter, *, limit: int, cursor: str | None
) -> TaskList:
    """Return a page of the tasks that a filter selects.

    Raises:
        Problem: 422, the cursor is none that we gave out.
    """
    after = _after(cursor)
    tasks: list[Task] = []
    for _ in range(PAGES):
        page = await store.tasks(filter, after=after, limit=limit - len(tasks))
        tasks += page.tasks
        after = page.after
        if after is None or len(tasks) >= limit:
            break
    views = list_views(tasks, engine.wait_reasons(tasks))
    return TaskList(views, None if after is None else _cursor(after))


def not_found(task_id: str) -> TaskNotFound:
    """Return the error of a task that there is not."""
    return TaskNotFound(f"there is no task {task_id!r}; it may have been deleted or pruned")


def _cursor(after: int) -> str:
    return f"{after:x}"


def _after(cursor: str | None) -> int | None:
    """Return where a page begins.

    Raises:
        Problem: 422, the cursor is none that we gave out.
    """
    if cursor is None:
        return None
    try:
        after = int(cursor, 16)
    except ValueError:
        after = -1
    if not 0 <= after < _LARGEST:
        raise invalid("invalid-query", "cursor", "is not the next_cursor of an earlier answer")
    return after
