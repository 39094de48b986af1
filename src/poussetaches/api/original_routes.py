"""The original's routes and field names, described in ``docs/original.md``.

Its words (``tries``, ``expected``, ``next_run``, ``delay`` in minutes, nanoseconds) are used here
only.
"""

from __future__ import annotations

import base64
import hashlib
from asyncio import ensure_future
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from random import Random

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.dialect import Dialect, problem_document
from poussetaches.api.endpoint import Endpoint, RawResponse, json_response
from poussetaches.api.engine_view import EngineView
from poussetaches.api.problems import too_large
from poussetaches.api.push_handler import Headers, PendingPush, PushHandler
from poussetaches.api.request_body import decode
from poussetaches.api.streamed_response import StreamedResponse
from poussetaches.api.views import response_text
from poussetaches.core.errors import BodyTooLarge, InvalidSchedule, InvalidTask
from poussetaches.core.moment import MINUTE, SECOND, Moment
from poussetaches.core.new_task import TaskBuilder, TaskLimits
from poussetaches.core.original_constants import CONNECTION_ERROR, DEFAULT_EXPECTED, OWNER
from poussetaches.core.schedule import Schedule, first_occurrence
from poussetaches.core.target import check_absolute_url
from poussetaches.core.task import MAX_DELAY, DeliveryForm, Task, TaskState
from poussetaches.core.task_fields import TaskFields
from poussetaches.engine.redirect import REDIRECTS
from poussetaches.store.base import Push as TaskPush
from poussetaches.store.base import PushResult, Store, SummaryPage, TaskSummary

PAGE = 200  # tasks read at once for a listing
PATHS = frozenset({"/", "/waiting", "/success", "/dead", "/cron", "/pause", "/resume"})

# The original closed the connection instead of sending an error response.
ORIGINAL = Dialect("original", covers=PATHS.__contains__, refusal=problem_document)

_MAX_DELAY_MINUTES = MAX_DELAY * SECOND // MINUTE


class Push(msgspec.Struct):
    """A push. Null and zero values mean the default; unknown fields are ignored."""

    url: str
    payload: str | None = None
    expected: int | None = None
    schedule: str | None = None
    delay: int | None = None


class Entry(msgspec.Struct):
    """A task in a list; times are nanoseconds since the epoch."""

    id: str
    url: str
    payload: str
    expected: int
    schedule: str
    next_run: int
    next_scheduled_run: int
    last_run: int
    tries: int
    last_error_status_code: int
    last_error_body: str | None


class Listing(msgspec.Struct):
    """A list, sorted by ``next_run``."""

    tasks: list[Entry]


class Status(msgspec.Struct):
    """Whether the server is paused, and how many attempts are in flight."""

    paused: bool
    in_flight: int


_PUSH = msgspec.json.Decoder(Push)


@dataclass(frozen=True, kw_only=True)
class OriginalRoutes:
    """Serves the original's API."""

    store: Store
    engine: EngineView
    now: Callable[[], Moment]
    random: Random
    max_body: int
    max_request: int

    def endpoints(self) -> list[Endpoint]:
        endpoint = partial(Endpoint, tag="The original's routes", ignores_unknown=True)
        get = partial(endpoint, method="GET", responses={200: Listing})
        act = partial(endpoint, method="POST", responses={200: None})
        return [
            get(path="/", handler=self.status, summary="Show the state", responses={200: Status}),
            endpoint(
                method="POST",
                path="/",
                handler=PushHandler(self.push, max_request=self.max_request),
                summary="Push a task, or a schedule",
                is_push=True,
                is_hot=True,
                body=Push,
                responses={201: None},
                response_headers={
                    "Poussetaches-Task-ID": "The id of the task, or of the schedule"
                },
                problems=(409,),
            ),
            get(
                path="/waiting",
                handler=self.waiting,
                summary="List waiting and running tasks, and the schedules",
            ),
            get(path="/success", handler=self.success, summary="List succeeded tasks"),
            get(path="/dead", handler=self.dead, summary="List dead tasks"),
            get(path="/cron", handler=self.cron, summary="List the schedules"),
            endpoint(
                method="DELETE",
                path="/cron",
                handler=self.delete_cron,
                summary="Delete the schedules and their waiting runs",
                responses={200: None},
            ),
            act(path="/pause", handler=self.pause, summary="Start no more attempts"),
            act(path="/resume", handler=self.resume, summary="Start attempts again"),
        ]

    async def status(self, request: Request) -> Response:
        status = Status(self.engine.paused, self.engine.in_flight)
        return json_response(status)

    def push(
        self, headers: Headers, body: bytes
    ) -> PendingPush[str] | PendingPush[list[PushResult]]:
        """Store a task, or a schedule unless it exists, and return its id."""
        push = decode(_PUSH, body)
        task = self._task_of(push)
        if push.schedule:
            return PendingPush(ensure_future(self._put_schedule(push.schedule, task)), _created)
        stored = self.store.push([TaskPush(task=task)], now=task.created_at)
        return PendingPush(stored, lambda _: _created(task.id))

    async def waiting(self, request: Request) -> Response:
        return await self._list(TaskState.WAITING)

    async def success(self, request: Request) -> Response:
        return await self._list(TaskState.SUCCEEDED)

    async def dead(self, request: Request) -> Response:
        return await self._list(TaskState.DEAD)

    async def cron(self, request: Request) -> Response:
        return json_response(Listing(await self._schedule_entries()))

    async def delete_cron(self, request: Request) -> Response:
        await self.store.delete_schedules(OWNER, now=self.now())
        return Response()

    async def pause(self, request: Request) -> Response:
        await self.store.set_paused(True)
        return Response()

    async def resume(self, request: Request) -> Response:
        await self.store.set_paused(False)
        return Response()

    def _task_of(self, push: Push) -> Task:
        _check_text("url", push.url)
        check_absolute_url(push.url)
        fields = TaskFields(
            url=push.url,
            delay=_delay(push) * MINUTE / SECOND,
            expected=(_expected(push),),
            # The original's decoder ignores line breaks, which base64(1) inserts.
            body_base64=(push.payload or "").replace("\n", "").replace("\r", ""),
        )
        builder = TaskBuilder(
            self.engine.queues,
            TaskLimits(max_body=self.max_body),
            now=self.now(),
            random=self.random,
        )
        try:
            return builder.build(fields, delivery=DeliveryForm.ENVELOPE)
        except BodyTooLarge as exc:
            raise too_large(f"payload: {exc.reason}") from None
        except InvalidTask as exc:
            field = "payload" if exc.field == "body_base64" else exc.field
            raise InvalidTask(field, exc.reason) from None

    async def _put_schedule(self, cron: str, task: Task) -> str:
        """Store a schedule; pushing it again changes nothing, since its name is its hash."""
        _check_text("schedule", cron)
        try:
            next_run_at = first_occurrence(cron, after=task.run_at)
        except InvalidSchedule as exc:
            raise InvalidSchedule("schedule", exc.reason) from None
        name = hashlib.sha1(
            task.url.encode() + task.body + cron.encode(), usedforsecurity=False
        ).hexdigest()
        schedule = Schedule(
            name=name,
            owner=OWNER,
            cron=cron,
            task=msgspec.structs.replace(task, id=name),
            created_at=task.created_at,
            anchor_at=task.run_at,
            next_run_at=next_run_at,
        )
        await self.store.edit_schedule(
            name, lambda stored: stored or schedule, now=task.created_at
        )
        return name

    async def _list(self, state: TaskState) -> Response:
        """Return a list page by page. The first page is read before the response begins."""
        schedules = await self.store.schedules(OWNER)
        expressions = {schedule.name: schedule.cron for schedule in schedules}
        runs = await self._schedule_entries(schedules) if state is TaskState.WAITING else []
        page = await self.store.list_enveloped(state, after=None, limit=PAGE)
        pieces = self._pieces(state, page, runs=deque(runs), expressions=expressions)
        return StreamedResponse(pieces, media_type="application/json")

    async def _pieces(
        self,
        state: TaskState,
        page: SummaryPage,
        *,
        runs: deque[Entry],
        expressions: Mapping[str, str],
    ) -> AsyncIterator[bytes]:
        """Yield a list page by page, merged with the entries of schedules."""
        start = b'{"tasks":['
        while True:
            after = page.after
            piece = [self._encoded(page, runs, expressions)]
            del page  # while the client reads, only the encoded bytes stay in memory
            if piece[0]:
                piece[0] = start + piece[0]
                start = b","
                yield piece.pop()
            if after is None:
                break
            page = await self.store.list_enveloped(state, after=after, limit=PAGE)
        yield b"]}" if start == b"," else start + b"]}"

    def _encoded(
        self, page: SummaryPage, runs: deque[Entry], expressions: Mapping[str, str]
    ) -> bytes:
        """Return the entries of a page, merged with the entries of schedules up to its end."""
        entries = [self._entry_of(summary, expressions) for summary in page.tasks]
        end = entries[-1].next_run if page.after and entries else None
        while runs and (end is None or runs[0].next_run <= end):
            entries.append(runs.popleft())
        entries.sort(key=lambda entry: entry.next_run)
        return b",".join([msgspec.json.encode(entry) for entry in entries])

    def _entry_of(self, summary: TaskSummary, expressions: Mapping[str, str]) -> Entry:
        task = summary.task
        entry = _entry_of(task, summary, schedule=expressions.get(task.schedule or "", ""))
        if task.state is TaskState.WAITING and task.run_at <= self.now():
            # Most tasks of an unreachable origin were never sent, so they have no own error.
            error = self.engine.held().get(task.lane.origin)
            if error is not None:
                entry.last_error_status_code = CONNECTION_ERROR
                entry.last_error_body = _encoded(error)
        return entry

    async def _schedule_entries(self, schedules: Sequence[Schedule] | None = None) -> list[Entry]:
        if schedules is None:
            schedules = await self.store.schedules(OWNER)
        runs = await self.store.latest_runs([schedule.name for schedule in schedules])
        return [_entry_of_schedule(schedule, runs.get(schedule.name)) for schedule in schedules]


def _created(task_id: str) -> Response:
    return RawResponse(b"", HTTPStatus.CREATED.value, (b"poussetaches-task-id", task_id.encode()))


def _delay(push: Push) -> int:
    delay = push.delay or 0
    if not 0 <= delay <= _MAX_DELAY_MINUTES:
        raise InvalidTask(
            "delay", f"must be from 0 to {_MAX_DELAY_MINUTES} minutes (ten years), not {delay}"
        )
    return delay


def _expected(push: Push) -> int:
    expected = push.expected or DEFAULT_EXPECTED
    if not 100 <= expected <= 599:  # noqa: PLR2004 - RFC 9110, section 15
        raise InvalidTask(
            "expected", f"must be 0 (for 200) or a status from 100 to 599, not {expected}"
        )
    return expected


def _check_text(field: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidTask(field, "contains half of a surrogate pair; send valid Unicode") from None


def _entry_of(task: Task, summary: TaskSummary | None, *, schedule: str) -> Entry:
    """Return the entry of a task, or of the template of a schedule with its latest run."""
    status, body = _last_error(summary) if summary else (0, None)
    last = summary.last_attempt if summary else None
    return Entry(
        id=task.id,
        url=task.url,
        payload=base64.b64encode(task.body).decode(),
        expected=_expected_of(task),
        schedule=schedule,
        next_run=_nanoseconds(task.run_at),
        next_scheduled_run=_nanoseconds(task.due_at),
        last_run=_nanoseconds(last.started_at) if last else 0,
        tries=summary.task.attempt_count if summary else 0,
        last_error_status_code=status,
        last_error_body=body,
    )


def _entry_of_schedule(schedule: Schedule, run: TaskSummary | None) -> Entry:
    at = schedule.next_run_at
    task = msgspec.structs.replace(schedule.task, id=schedule.name, run_at=at, due_at=at)
    return _entry_of(task, run, schedule=schedule.cron)


def _last_error(summary: TaskSummary) -> tuple[int, str | None]:
    """Return the status and body of the last failure: 0 for none, -1 without a response."""
    task, failure = summary.task, summary.last_failure
    if task.last_error is not None and task.last_status is None:
        return CONNECTION_ERROR, _encoded(task.last_error)
    if failure is None:
        return 0, None
    # To the original, a redirect is an ordinary response, not an error.
    if failure.error is not None and failure.status not in REDIRECTS:
        return CONNECTION_ERROR, _encoded(failure.error)
    return failure.status or CONNECTION_ERROR, _encoded(response_text(failure))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode()


def _expected_of(task: Task) -> int:
    return next((rule for rule in task.expected if isinstance(rule, int)), DEFAULT_EXPECTED)


def _nanoseconds(moment: Moment) -> int:
    return moment * 1000
