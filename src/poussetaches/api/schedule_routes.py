"""The routes of schedules, ``/v1/schedules``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from itertools import islice
from operator import attrgetter
from random import Random
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.definition_body import decode_definition, name_of, patched
from poussetaches.api.endpoint import Endpoint, json_response, read_query
from poussetaches.api.engine_view import EngineView
from poussetaches.api.problems import after_change, invalid
from poussetaches.api.request_body import decode, read_body
from poussetaches.api.schedule_fields import (
    CODE,
    SCHEDULE_HINTS,
    SHOWN_RUNS,
    Cron,
    Occurrence,
    ScheduleBuilder,
    ScheduleFields,
    SchedulePatch,
    ScheduleView,
    Timezone,
    occurrence,
    schedule_view,
)
from poussetaches.api.schedule_patch import patch_base, successor, with_unnamed_fields
from poussetaches.api.schedule_set import (
    YIELD_EVERY,
    ScheduleSet,
    SetQuery,
    UndecodedSet,
    read_set,
)
from poussetaches.api.task_routes import Cursor, Limit, TaskList, page_of
from poussetaches.api.views import TaskView, task_view
from poussetaches.core.errors import OwnedByAnother, ScheduleNotFound
from poussetaches.core.filter import TaskFilter
from poussetaches.core.moment import Moment
from poussetaches.core.new_task import TaskBuilder, TaskLimits
from poussetaches.core.original_constants import OWNER as ORIGINAL
from poussetaches.core.queue import Name
from poussetaches.core.responses import RefusedSchedule
from poussetaches.core.schedule import (
    Schedule,
    first_occurrence,
    following,
    occurrences,
    redefined,
    run_of,
)
from poussetaches.store.base import Store

TAG = "Schedules"
MAX_PREVIEW = 100


class Preview(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An expression, and the number of occurrences to compute."""

    cron: Cron
    timezone: Timezone | None = None
    count: Annotated[int, Meta(ge=1, le=MAX_PREVIEW)] | None = None


class Previewed(msgspec.Struct, frozen=True):
    """The next occurrences of an expression, as of a schedule that is created now."""

    next_runs: list[Occurrence]


class RunsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The page of a list of runs."""

    limit: Limit = 100
    cursor: Cursor | None = None


class ScheduleList(msgspec.Struct, frozen=True):
    """Schedules, sorted by name."""

    schedules: list[ScheduleView]


class DeclaredSchedules(ScheduleList, frozen=True):
    """The schedules of an owner, sorted by name, and the refused ones of the declared set."""

    refused: list[RefusedSchedule]


_SCHEDULE = msgspec.json.Decoder(ScheduleFields)
_PATCH = msgspec.json.Decoder(SchedulePatch)
_SET = msgspec.json.Decoder(UndecodedSet)
_PREVIEW = msgspec.json.Decoder(Preview)


@dataclass(frozen=True, kw_only=True)
class ScheduleRoutes:
    """Serves the schedules, including those of the original's route.

    The latter cannot be changed, since their names are derived from their definitions. A schedule
    of a declared set can be changed, and still belongs to its owner: the change lasts until the
    owner declares another definition.
    """

    store: Store
    engine: EngineView
    limits: TaskLimits
    now: Callable[[], Moment]
    random: Random
    secret_headers: frozenset[str]
    max_request: int

    def endpoints(self) -> list[Endpoint]:
        endpoint = partial(Endpoint, tag=TAG)
        one = "/v1/schedules/{name}"
        named = partial(endpoint, parameters={"name": Name})
        existing = partial(named, responses={200: ScheduleView}, problems=(404,))
        return [
            endpoint(
                method="GET",
                path="/v1/schedules",
                handler=self.show_all,
                summary="List the schedules of all owners, sorted by name",
                responses={200: ScheduleList},
            ),
            endpoint(
                method="PUT",
                path="/v1/schedules",
                handler=self.declare,
                summary="Declare all the schedules of an owner",
                query=SetQuery,
                body=ScheduleSet,
                responses={200: DeclaredSchedules},
                problems=(409,),
            ),
            endpoint(
                method="POST",
                path="/v1/schedules/preview",
                handler=self.preview,
                summary="Compute the next occurrences of an expression",
                body=Preview,
                responses={200: Previewed},
                changes_nothing=True,
            ),
            existing(method="GET", path=one, handler=self.show, summary="Show a schedule"),
            named(
                method="PUT",
                path=one,
                handler=self.put,
                summary="Define a schedule",
                body=ScheduleFields,
                responses={201: ScheduleView, 200: ScheduleView},
                problems=(409,),
            ),
            existing(
                method="PATCH",
                path=one,
                handler=self.patch,
                summary="Change a schedule (RFC 7396)",
                body=SchedulePatch,
                problems=(404, 409),
            ),
            existing(
                method="DELETE",
                path=one,
                handler=self.delete,
                summary="Delete a schedule and its waiting runs",
                responses={204: None},
            ),
            existing(
                method="POST",
                path=one + "/run",
                handler=self.run,
                summary="Run a schedule now",
                responses={201: TaskView},
                response_headers={"Location": "The path of the task"},
            ),
            existing(
                method="POST",
                path=one + "/pause",
                handler=self.pause,
                summary="Pause a schedule",
            ),
            existing(
                method="POST",
                path=one + "/resume",
                handler=self.resume,
                summary="Resume a schedule; runs missed during the pause are not caught up",
            ),
            existing(
                method="GET",
                path=one + "/runs",
                handler=self.runs,
                summary="List the runs of a schedule, latest first",
                query=RunsQuery,
                responses={200: TaskList},
            ),
        ]

    async def show_all(self, request: Request) -> Response:
        return json_response(ScheduleList(await self._views(await self.store.schedules(None))))

    async def declare(self, request: Request) -> Response:
        """Replace the schedules of an owner by a set."""
        partial = read_query(request, SetQuery).partial
        body = await read_body(request, limit=self.max_request)
        given = decode(_SET, body, code=CODE)
        if given.owner == ORIGINAL:
            raise invalid(
                CODE, "owner", f"{ORIGINAL!r} owns the schedules of the original's route"
            )
        while True:
            schedules, refused = await read_set(
                given, store=self.store, builder=self._builder(), partial=partial
            )
            try:
                await self.store.replace_schedules(
                    given.owner, given.version, schedules, now=self.now()
                )
            except OwnedByAnother:
                if not partial:
                    raise
                continue  # another owner took one of the names in between
            with after_change():
                stored = await self.store.schedules(given.owner)
            return json_response(DeclaredSchedules(await self._views(stored), refused))

    async def show(self, request: Request) -> Response:
        return self._respond(await self._stored(request))

    async def put(self, request: Request) -> Response:
        """Define a schedule; an existing one keeps its pause, history and owner."""
        name = name_of(request, code=CODE)
        body = await read_body(request, limit=self.max_request)
        fields = decode_definition(_SCHEDULE, body, hints=SCHEDULE_HINTS, code=CODE)
        new = self._builder().build(name, fields)
        made = False

        def edit(stored: Schedule | None) -> Schedule:
            nonlocal made
            made = stored is None
            return redefined(stored, new if stored is None else successor(stored, new))

        edited = await self.store.edit_schedule(name, edit, now=self.now())
        assert edited is not None
        return self._respond(edited, HTTPStatus.CREATED if made else HTTPStatus.OK)

    async def patch(self, request: Request) -> Response:
        """Change some fields of a schedule; null resets a field."""
        patch = await read_body(request, limit=self.max_request)
        # Checks the names of fields that are null, which the merged document no longer has.
        decode_definition(_PATCH, patch, hints=SCHEDULE_HINTS, code=CODE)
        while True:
            stored = await self._stored(request)
            new = redefined(stored, successor(stored, self._patched(stored, patch)))
            # If it was changed in between, the patch is applied to the changed schedule.
            edited = await self._edit(request, partial(_replaced, stored, new))
            if edited.definition == new.definition:
                return self._respond(edited)

    async def delete(self, request: Request) -> Response:
        name: str = request.path_params["name"]

        def edit(stored: Schedule | None) -> None:
            if stored is None:
                raise _not_found(name)

        await self.store.edit_schedule(name, edit, now=self.now())
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def pause(self, request: Request) -> Response:
        return self._respond(
            await self._edit(request, lambda stored: msgspec.structs.replace(stored, paused=True))
        )

    async def resume(self, request: Request) -> Response:
        """Resume a schedule from its next occurrence."""
        now = self.now()
        return self._respond(await self._edit(request, lambda stored: _resumed(stored, now=now)))

    async def run(self, request: Request) -> Response:
        """Run a schedule now; its occurrences do not change."""
        schedule, now = await self._stored(request), self.now()
        run = run_of(schedule, now, random=self.random)
        if not await self.store.fire_by_hand(schedule.name, run):
            raise _not_found(schedule.name)
        view = task_view(run, secret_headers=self.secret_headers)
        location = (b"location", f"/v1/tasks/{run.id}".encode())
        return json_response(view, HTTPStatus.CREATED, location)

    async def runs(self, request: Request) -> Response:
        query = read_query(request, RunsQuery)
        schedule = await self._stored(request)
        filter = TaskFilter(schedule=schedule.name)
        page = await page_of(
            self.store, self.engine, filter, limit=query.limit, cursor=query.cursor
        )
        return json_response(page)

    async def preview(self, request: Request) -> Response:
        body = await read_body(request, limit=self.max_request)
        given, now = decode(_PREVIEW, body, code=CODE), self.now()
        timezone = given.timezone or "UTC"
        first_occurrence(given.cron, after=now, timezone=timezone)
        moments = islice(
            occurrences(given.cron, anchor=now, after=now, timezone=timezone),
            given.count or SHOWN_RUNS,
        )
        return json_response(Previewed([occurrence(moment, timezone) for moment in moments]))

    def _builder(self) -> ScheduleBuilder:
        now = self.now()
        tasks = TaskBuilder(self.engine.queues, self.limits, now=now, random=self.random)
        return ScheduleBuilder(tasks, now=now)

    def _patched(self, stored: Schedule, patch: bytes) -> Schedule:
        document = patched(patch_base(stored, patch), patch, code=CODE)
        fields = decode_definition(_SCHEDULE, document, hints=SCHEDULE_HINTS, code=CODE)
        return with_unnamed_fields(self._builder().build(stored.name, fields), stored, patch)

    async def _stored(self, request: Request) -> Schedule:
        name: str = request.path_params["name"]
        schedule = await self.store.schedule(name)
        if schedule is None:
            raise _not_found(name)
        return schedule

    async def _edit(self, request: Request, edit: Callable[[Schedule], Schedule]) -> Schedule:
        name: str = request.path_params["name"]

        def edit_existing(stored: Schedule | None) -> Schedule:
            if stored is None:
                raise _not_found(name)
            return edit(stored)

        edited = await self.store.edit_schedule(name, edit_existing, now=self.now())
        assert edited is not None
        return edited

    def _respond(self, schedule: Schedule, status: HTTPStatus = HTTPStatus.OK) -> Response:
        return json_response(schedule_view(schedule, secret_headers=self.secret_headers), status)

    async def _views(self, schedules: Sequence[Schedule]) -> list[ScheduleView]:
        views = []
        for number, schedule in enumerate(sorted(schedules, key=attrgetter("name")), start=1):
            views.append(schedule_view(schedule, secret_headers=self.secret_headers))
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return views


def _not_found(name: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"there is no schedule {name!r}; GET /v1/schedules lists all")


def _replaced(expected: Schedule, new: Schedule, current: Schedule) -> Schedule:
    """Return the new definition of a schedule, or the current one if it was changed meanwhile."""
    if current.identity != expected.identity:
        return current
    return redefined(current, new)


def _resumed(schedule: Schedule, *, now: Moment) -> Schedule:
    """Return a schedule that continues with its next occurrence, without catching up."""
    if not schedule.paused:
        return schedule
    next_run_at = following(schedule, after=now)
    return msgspec.structs.replace(schedule, paused=False, next_run_at=next_run_at)
