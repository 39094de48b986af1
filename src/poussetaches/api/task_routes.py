"""The routes of single tasks and of lists, ``/v1/tasks``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import Endpoint, TaskId, json_response, read_query
from poussetaches.api.engine_view import EngineView
from poussetaches.api.filter_fields import FILTER_CODE, REPEATABLE, FilterFields
from poussetaches.api.problems import invalid
from poussetaches.api.push_handler import Headers, PendingPush, PushHandler
from poussetaches.api.request_body import decode, read_body
from poussetaches.api.request_limits import RequestLimits
from poussetaches.api.task_patch import changes_of
from poussetaches.api.task_pusher import TaskPusher, build_push
from poussetaches.api.task_wait import ENDED, TaskWaiters, wait_for_end
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
from poussetaches.core.changes import Changes
from poussetaches.core.edits import Cancel, Delete, Edit, Patch, Requeue, Run
from poussetaches.core.errors import TaskNotFound
from poussetaches.core.filter import TaskFilter
from poussetaches.core.merge_patch import Document
from poussetaches.core.moment import Moment
from poussetaches.core.task import Task, TaskState
from poussetaches.core.task_fields import TaskChanges, TaskFields
from poussetaches.core.wait_reason import WaitingFor, WaitReason
from poussetaches.store.base import PushResult, Store

TAG = "Tasks"
MAX_WAIT = 60  # seconds that a request may wait for a task to end
MAX_AHEAD = 1000  # tasks ahead of another that are counted
MAX_PAGES = 5  # of the store per page of a response: few tasks match a search for text

Limit = Annotated[int, Meta(ge=1, le=1000)]
Cursor = Annotated[str, Meta(max_length=20)]

_MAX_CURSOR = 2**63  # exclusive
_ID_HEADER = b"poussetaches-task-id"
_CODES = dict.fromkeys(FilterFields.__struct_fields__, FILTER_CODE)


class ListQuery(FilterFields, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The filter and the page of a list of tasks."""

    limit: Limit = 100
    cursor: Cursor | None = None


class DetailQuery(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The seconds to wait for the task to end."""

    wait: Annotated[float, Meta(ge=0, le=MAX_WAIT)] = 0.0


class TaskList(msgspec.Struct, frozen=True):
    """A page of tasks, latest first, and the cursor of the next page."""

    tasks: list[ListedTask]
    next_cursor: str | None


_PUSH = msgspec.json.Decoder(TaskFields)
_PATCH = msgspec.json.Decoder(Document)


@dataclass(frozen=True, kw_only=True)
class TaskRoutes:
    """Serves single tasks and lists of tasks."""

    store: Store
    engine: EngineView
    pusher: TaskPusher
    waiters: TaskWaiters
    request_limits: RequestLimits
    now: Callable[[], Moment]
    max_body: int
    max_request: int
    secret_headers: frozenset[str]

    def endpoints(self) -> list[Endpoint]:
        endpoint = partial(Endpoint, tag=TAG)
        existing = partial(endpoint, parameters={"id": TaskId})
        change = partial(
            existing, responses={200: TaskView}, body=TaskChanges, problems=(404, 409)
        )
        one = "/v1/tasks/{id}"
        return [
            endpoint(
                method="POST",
                path="/v1/tasks",
                handler=PushHandler(self.push, max_request=self.max_request),
                summary="Push a task",
                is_push=True,
                is_hot=True,
                body=TaskFields,
                responses={201: TaskView, 200: TaskOrPruned},
                response_headers={
                    "Location": "The path of the task",
                    "Poussetaches-Task-ID": "The id of the task",
                    "Poussetaches-Existing": "true if an earlier push created the task",
                },
                problems=(409,),
            ),
            endpoint(
                method="GET",
                path="/v1/tasks",
                handler=self.list_tasks,
                summary="List tasks, latest first",
                query=ListQuery,
                responses={200: TaskList},
            ),
            existing(
                method="GET",
                path=one,
                handler=self.show,
                summary="Show a task, at once or when it has ended",
                query=DetailQuery,
                responses={200: TaskDetail},
                problems=(404,),
            ),
            change(
                method="PATCH", path=one, handler=self.patch, summary="Change a task (RFC 7396)"
            ),
            existing(
                method="DELETE",
                path=one,
                handler=self.delete,
                summary="Delete a task in any state",
                responses={204: None},
                problems=(404,),
            ),
            change(
                method="POST",
                path=one + "/run",
                handler=partial(self.resend, kind=Run),
                summary="Run a waiting task now, ignoring delay, backoff and pause",
                body_is_optional=True,
            ),
            change(
                method="POST",
                path=one + "/requeue",
                handler=partial(self.resend, kind=Requeue),
                summary="Requeue an ended task",
                body_is_optional=True,
            ),
            existing(
                method="POST",
                path=one + "/cancel",
                handler=self.cancel,
                summary="Cancel a waiting task, or prevent retries of a running one",
                responses={200: TaskView},
                problems=(404, 409),
            ),
        ]

    def push(self, headers: Headers, body: bytes) -> PendingPush[list[PushResult]]:
        """Store a task, or find the task that an earlier push created."""
        push = build_push(self.pusher.builder(headers), decode(_PUSH, body))
        return PendingPush(self.pusher.push([push]), self._answer_push)

    async def list_tasks(self, request: Request) -> Response:
        query = read_query(request, ListQuery, repeatable=REPEATABLE, codes=_CODES)
        page = await page_of(
            self.store, self.engine, query.filter(), limit=query.limit, cursor=query.cursor
        )
        return json_response(page)

    async def show(self, request: Request) -> Response:
        """Return a task with its attempts, after waiting for its end if requested."""
        query = read_query(request, DetailQuery)
        task_id: str = request.path_params["id"]
        task = await self.store.get(task_id)
        if task is not None and query.wait and task.state not in ENDED:
            await self._wait(request, task_id, query.wait)
            task = await self.store.get(task_id)
        if task is None:
            raise not_found(task_id)
        detail = task_detail(
            task,
            await self.store.attempts(task_id),
            await self._waiting_for(task),
            self.engine.progress_of(task_id),
            secret_headers=self.secret_headers,
        )
        return json_response(detail)

    async def patch(self, request: Request) -> Response:
        changes, now = await self._read_changes(request)
        return await self._edit(request, Patch(changes), now)

    async def delete(self, request: Request) -> Response:
        task_id: str = request.path_params["id"]
        if await self.store.edit(task_id, Delete(), now=self.now()) is None:
            raise not_found(task_id)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def resend(self, request: Request, *, kind: type[Run | Requeue]) -> Response:
        changes, now = await self._read_changes(request)
        return await self._edit(request, kind(at=now, changes=changes), now)

    async def cancel(self, request: Request) -> Response:
        now = self.now()
        return await self._edit(request, Cancel(now), now)

    def _answer_push(self, results: list[PushResult]) -> Response:
        [pushed] = results
        view = (
            PrunedTask(id=pushed.task_id)
            if pushed.task is None
            else task_view(pushed.task, secret_headers=self.secret_headers)
        )
        task_id = pushed.task_id.encode()
        location, id_header = (b"location", b"/v1/tasks/" + task_id), (_ID_HEADER, task_id)
        if pushed.existing:
            existing = (b"poussetaches-existing", b"true")
            return json_response(view, HTTPStatus.OK, location, id_header, existing)
        return json_response(view, HTTPStatus.CREATED, location, id_header)

    async def _wait(self, request: Request, task_id: str, max_wait: float) -> None:
        with self.request_limits.parked(request.scope), self.waiters.waiter(task_id) as waiter:
            # It may have ended before the request was registered.
            task = await self.store.get(task_id)
            if task is not None and task.state not in ENDED:
                await wait_for_end(waiter, request, max_wait=max_wait)

    async def _waiting_for(self, task: Task) -> list[WaitingFor] | None:
        if task.state is not TaskState.WAITING:
            return None
        reasons, now = self.engine.waiting_for(task), self.now()
        if task.run_at > now:
            return reasons
        ahead = await self.store.count_ahead(task.id, now=now, limit=MAX_AHEAD)
        if not ahead:
            return reasons
        number = f"{ahead} or more" if ahead == MAX_AHEAD else str(ahead)
        detail = f"{number} due tasks of the same queue and origin are ahead"
        return [*reasons, WaitingFor(reason=WaitReason.BEHIND, detail=detail, count=ahead)]

    async def _read_changes(self, request: Request) -> tuple[Changes, Moment]:
        """Return the changes in a request, and the moment of the edit."""
        body = await read_body(request, limit=self.max_request)
        is_optional = request.method == "POST"
        patch = {} if is_optional and not body else decode(_PATCH, body)
        now = self.now()
        return changes_of(patch, self.engine.queues, now=now, max_body=self.max_body), now

    async def _edit(self, request: Request, edit: Edit, now: Moment) -> Response:
        task_id: str = request.path_params["id"]
        task = await self.store.edit(task_id, edit, now=now)
        if task is None:
            raise not_found(task_id)
        return json_response(task_view(task, secret_headers=self.secret_headers))


async def page_of(
    store: Store, engine: EngineView, filter: TaskFilter, *, limit: int, cursor: str | None
) -> TaskList:
    """Return a page of the tasks that a filter selects.

    Raises:
        Problem: 422, the cursor is invalid.
    """
    after = _after(cursor)
    tasks: list[Task] = []
    for _ in range(MAX_PAGES):
        page = await store.tasks(filter, after=after, limit=limit - len(tasks))
        tasks += page.tasks
        after = page.after
        if after is None or len(tasks) >= limit:
            break
    views = list_views(tasks, engine.wait_reasons(tasks))
    return TaskList(views, None if after is None else _cursor(after))


def not_found(task_id: str) -> TaskNotFound:
    """Return the error of a missing task."""
    return TaskNotFound(f"there is no task {task_id!r}; it may have been deleted or pruned")


def _cursor(after: int) -> str:
    return f"{after:x}"


def _after(cursor: str | None) -> int | None:
    """Return where a page begins.

    Raises:
        Problem: 422, the cursor is invalid.
    """
    if cursor is None:
        return None
    try:
        after = int(cursor, 16)
    except ValueError:
        after = -1
    if not 0 <= after < _MAX_CURSOR:
        raise invalid(
            "invalid-query",
            "cursor",
            f"{cursor!r} is invalid; use the next_cursor of the previous page",
        )
    return after
