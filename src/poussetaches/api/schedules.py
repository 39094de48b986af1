"""The schedules: what is made when, their runs, and the sets that applications declare."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from itertools import islice
from random import Random
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.definitions import decode_definition, name_of, patched
from poussetaches.api.endpoint import Endpoint, answer, read_query
from poussetaches.api.engine_view import EngineView
from poussetaches.api.problems import Problem, after_change
from poussetaches.api.reading import decode, invalid, read_body
from poussetaches.api.schedule_fields import (
    HINTS,
    SET_HINTS,
    SHOWN_RUNS,
    Cron,
    DeclaredSchedule,
    Occurrence,
    ScheduleBuilder,
    ScheduleFields,
    SchedulePatch,
    ScheduleSet,
    ScheduleView,
    SetQuery,
    Timezone,
    UnreadSet,
    name_in,
    occurrence,
    schedule_view,
)
from poussetaches.api.schedule_patch import said, with_the_rest
from poussetaches.api.tasks import Cursor, Limit, TaskList, page_of
from poussetaches.api.views import TaskView, task_view, unmasked
from poussetaches.core.application import check_same_application
from poussetaches.core.errors import Conflict, Invalid, OwnedByAnother, ScheduleNotFound
from poussetaches.core.filter import TaskFilter
from poussetaches.core.ids import new_task_id
from poussetaches.core.moment import Moment
from poussetaches.core.new_task import TaskBuilder, TaskLimits
from poussetaches.core.original import OWNER as ORIGINAL
from poussetaches.core.queue import Name
from poussetaches.core.responses import RefusedSchedule
from poussetaches.core.schedule import (
    Schedule,
    check_owner,
    declared_as_written,
    first_occurrence,
    following,
    occurrences,
    redefined,
)
from poussetaches.store.base import Store

TAG = "Schedules"
CODE = "invalid-schedule"
MAX_PREVIEW = 100
AT_ONCE = 50  # schedules read or shown before others get their turn: each takes up to 1 ms


class Preview(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An expression whose next occurrences are asked for."""

    cron: Cron
    timezone: Timezone | None = None
    count: Annotated[int, Meta(ge=1, le=MAX_PREVIEW)] | None = None


class Previewed(msgspec.Struct, frozen=True):
    """The next occurrences of an expression that begins to count now."""

    next_runs: list[Occurrence]


class RunsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many runs to list, and from where on."""

    limit: Limit = 100
    cursor: Cursor | None = None


class ScheduleList(msgspec.Struct, frozen=True):
    """Schedules, by name."""

    schedules: list[ScheduleView]


class DeclaredSchedules(ScheduleList, frozen=True):
    """The schedules of an owner by name, and the refused ones of the declared set."""

    refused: list[RefusedSchedule]


class ScheduleRoutes:
    """Serves the schedules from the store. Those of the original's route are among them.

    The latter can be looked at, paused, resumed, run and deleted, but not changed: their name
    stands for what they are. A schedule that belongs to a declared set can be changed by name,
    and stays its owner's: the change holds until the owner declares something else.
    """

    def __init__(
        self,
        *,
        store: Store,
        engine: EngineView,
        limits: TaskLimits,
        now: Callable[[], Moment],
        random: Random,
        secret_headers: frozenset[str],
        max_request: int,
    ) -> None:
        self._store = store
        self._engine = engine
        self._limits = limits
        self._now = now
        self._random = random
        self._secret_headers = secret_headers
        self._max_request = max_request
        self._decoder = msgspec.json.Decoder(ScheduleFields)
        self._patch_decoder = msgspec.json.Decoder(SchedulePatch)
        self._set_decoder = msgspec.json.Decoder(UnreadSet)
        self._declared_decoder = msgspec.json.Decoder(DeclaredSchedule)
        self._preview_decoder = msgspec.json.Decoder(Preview)

    def endpoints(self) -> list[Endpoint]:
        """Return the rows of the API."""
        row = partial(Endpoint, tag=TAG)
        every, one = "/v1/schedules", "/v1/schedules/{name}"
        named = partial(row, parameters={"name": Name})
        known = partial(named, answers={200: ScheduleView}, problems=(404,))
        return [
            row(
                method="GET",
                path=every,
                handler=self.show_all,
                summary="List the schedules of all owners, by name",
                answers={200: ScheduleList},
            ),
            row(
                method="PUT",
                path=every,
                handler=self.declare,
                summary="Declare all the schedules of an owner",
                query=SetQuery,
                body=ScheduleSet,
                answers={200: DeclaredSchedules},
                problems=(409,),
            ),
            row(
                method="POST",
                path=every + "/preview",
                handler=self.preview,
                summary="Show when an expression would be due",
                body=Preview,
                answers={200: Previewed},
                reads=True,
            ),
            known(method="GET", path=one, handler=self.show, summary="Show a schedule"),
            named(
                method="PUT",
                path=one,
                handler=self.put,
                summary="Define a schedule",
                body=ScheduleFields,
                answers={201: ScheduleView, 200: ScheduleView},
                problems=(409,),
            ),
            known(
                method="PATCH",
                path=one,
                handler=self.patch,
                summary="Change a schedule (RFC 7396)",
                body=SchedulePatch,
                problems=(404, 409),
            ),
            known(
                method="DELETE",
                path=one,
                handler=self.delete,
                summary="Delete a schedule and its waiting runs",
                answers={204: None},
            ),
            known(
                method="POST",
                path=one + "/run",
                handler=self.run,
                summary="Make a run of a schedule now",
                answers={201: TaskView},
                answer_headers={"Location": "The path of the task"},
            ),
            known(
                method="POST",
                path=one + "/pause",
                handler=self.pause,
                summary="Make no more runs of a schedule",
            ),
            known(
                method="POST",
                path=one + "/resume",
                handler=self.resume,
                summary="Make runs of a schedule again; the pause is not made up for",
            ),
            known(
                method="GET",
                path=one + "/runs",
                handler=self.runs,
                summary="List the runs of a schedule, the latest first",
                query=RunsQuery,
                answers={200: TaskList},
            ),
        ]

    async def show_all(self, request: Request) -> Response:
        """Answer the schedules of all owners, by name."""
        return await self._answer_all(await self._store.schedules(None))

    async def declare(self, request: Request) -> Response:
        """Keep a set of schedules, and no others, for an owner."""
        partial = read_query(request, SetQuery).partial
        body = await read_body(request, limit=self._max_request)
        given = decode_definition(self._set_decoder, body, hints=HINTS, code=CODE)
        if given.owner == ORIGINAL:
            raise invalid(CODE, "owner", f"{ORIGINAL!r} has the schedules of the original's route")
        while True:
            found, refused = await self._read_set(given, partial=partial)
            try:
                await self._store.replace_schedules(
                    given.owner, given.version, found, now=self._now()
                )
            except OwnedByAnother:
                if not partial:
                    raise
                continue  # another owner has just taken one of the names
            return await self._answer_set(given.owner, refused)

    async def _read_set(
        self, given: UnreadSet, *, partial: bool
    ) -> tuple[list[Schedule], list[RefusedSchedule]]:
        """Return the schedules to store for an owner, and the refused ones of a ``partial`` set.

        A refused schedule that the owner already has stays unchanged.
        """
        known = {schedule.name: schedule for schedule in await self._store.schedules(given.owner)}
        builder, found, refused = self._builder(), dict[str, Schedule](), list[RefusedSchedule]()
        for number, unread in enumerate(given.schedules):
            name, place = name_in(unread), f"schedules[{number}]."
            try:
                if name in found:
                    raise invalid(CODE, f"{place}name", f"{name!r} appears twice")
                if partial and name not in known:  # otherwise the store checks it
                    await self._check_owner(name, given.owner)
                fields = self._read_declared(unread, place)
                schedule = builder.build(name, fields, owner=given.owner, place=place)
            except (Problem, Invalid, Conflict) as exc:
                if not partial:
                    raise
                field, reason = field_and_reason(exc)
                refused.append(RefusedSchedule(name, field.removeprefix(place), reason))
                if name in known:
                    found.setdefault(name, known[name])
            else:
                if name in known:
                    schedule = _succeeding(known[name], schedule)
                found[name] = declared_as_written(schedule)
            if len(found) % AT_ONCE == 0:
                await asyncio.sleep(0)
        check_same_application(given.owner, known.values(), found.values())
        return list(found.values()), refused

    async def _check_owner(self, name: str, owner: str) -> None:
        known = await self._store.schedule(name)
        check_owner(name, known=None if known is None else known.owner, owner=owner)

    def _read_declared(self, unread: msgspec.Raw, place: str) -> DeclaredSchedule:
        try:
            return decode_definition(
                self._declared_decoder, bytes(unread), hints=SET_HINTS, code=CODE
            )
        except Problem as exc:
            if not exc.errors:
                raise
            field, reason = field_and_reason(exc)
            raise invalid(CODE, place + field, reason) from None

    async def show(self, request: Request) -> Response:
        """Answer a schedule."""
        return self._answer(await self._known(request))

    async def put(self, request: Request) -> Response:
        """Define a schedule; of a known one the pause, the history and the owner stay."""
        name = name_of(request, code=CODE)
        body = await read_body(request, limit=self._max_request)
        fields = decode_definition(self._decoder, body, hints=HINTS, code=CODE)
        new = self._builder().build(name, fields)
        made = False

        def edit(known: Schedule | None) -> Schedule:
            nonlocal made
            made = known is None
            return redefined(known, new if known is None else _succeeding(known, new))

        kept = await self._store.edit_schedule(name, edit, now=self._now())
        assert kept is not None
        return self._answer(kept, HTTPStatus.CREATED if made else HTTPStatus.OK)

    async def patch(self, request: Request) -> Response:
        """Change some of what a schedule says; null resets it."""
        patch = await read_body(request, limit=self._max_request)
        # Null has to name what there is, too.
        decode_definition(self._patch_decoder, patch, hints=HINTS, code=CODE)
        while True:
            known = await self._known(request)
            new = redefined(known, _succeeding(known, self._patched(known, patch)))
            # One that somebody else has changed in between is left alone, and read again.
            kept = await self._edit(request, partial(_replaced, known, new))
            if kept.definition == new.definition:
                return self._answer(kept)

    async def delete(self, request: Request) -> Response:
        """Delete a schedule and its waiting runs."""
        name: str = request.path_params["name"]

        def edit(known: Schedule | None) -> None:
            if known is None:
                raise _not_found(name)

        await self._store.edit_schedule(name, edit, now=self._now())
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def pause(self, request: Request) -> Response:
        """Make no more runs of a schedule."""
        return self._answer(
            await self._edit(request, lambda known: msgspec.structs.replace(known, paused=True))
        )

    async def resume(self, request: Request) -> Response:
        """Make runs of a schedule again, from the next occurrence on."""
        now = self._now()
        return self._answer(await self._edit(request, lambda known: _resumed(known, now=now)))

    async def run(self, request: Request) -> Response:
        """Make a run of a schedule now; its times stay as they are."""
        schedule, now = await self._known(request), self._now()
        run = msgspec.structs.replace(
            schedule.task,
            id=new_task_id(now, self._random),
            schedule=schedule.name,
            created_at=now,
            run_at=now,
            due_at=now,
        )
        if not await self._store.fire_by_hand(schedule.name, run):
            raise _not_found(schedule.name)
        view = task_view(run, secret_headers=self._secret_headers)
        headers = {"Location": f"/v1/tasks/{run.id}"}
        return answer(view, HTTPStatus.CREATED, headers=headers)

    async def runs(self, request: Request) -> Response:
        """Answer the runs of a schedule, the latest first."""
        query = read_query(request, RunsQuery)
        schedule = await self._known(request)
        filter = TaskFilter(schedule=schedule.name)
        page = await page_of(
            self._store, self._engine, filter, limit=query.limit, cursor=query.cursor
        )
        return answer(page)

    async def preview(self, request: Request) -> Response:
        """Answer when an expression that begins to count now would be due."""
        body = await read_body(request, limit=self._max_request)
        given, now = decode(self._preview_decoder, body, code=CODE), self._now()
        timezone = given.timezone or "UTC"
        first_occurrence(given.cron, after=now, timezone=timezone)
        found = islice(
            occurrences(given.cron, anchor=now, after=now, timezone=timezone),
            given.count or SHOWN_RUNS,
        )
        return answer(Previewed([occurrence(moment, timezone) for moment in found]))

    def _builder(self) -> ScheduleBuilder:
        now = self._now()
        tasks = TaskBuilder(self._engine.queues, self._limits, now=now, random=self._random)
        return ScheduleBuilder(tasks, now=now)

    def _patched(self, known: Schedule, patch: bytes) -> Schedule:
        document = patched(said(known, patch), patch, code=CODE)
        fields = decode_definition(self._decoder, document, hints=HINTS, code=CODE)
        return with_the_rest(self._builder().build(known.name, fields), known, patch)

    async def _known(self, request: Request) -> Schedule:
        name: str = request.path_params["name"]
        schedule = await self._store.schedule(name)
        if schedule is None:
            raise _not_found(name)
        return schedule

    async def _edit(self, request: Request, edit: Callable[[Schedule], Schedule]) -> Schedule:
        name: str = request.path_params["name"]

        def edit_known(known: Schedule | None) -> Schedule:
            if known is None:
                raise _not_found(name)
            return edit(known)

        kept = await self._store.edit_schedule(name, edit_known, now=self._now())
        assert kept is not None
        return kept

    def _answer(self, schedule: Schedule, status: HTTPStatus = HTTPStatus.OK) -> Response:
        return answer(schedule_view(schedule, secret_headers=self._secret_headers), status)

    async def _answer_all(self, schedules: Sequence[Schedule]) -> Response:
        return answer(ScheduleList(await self._views(schedules)))

    async def _answer_set(self, owner: str, refused: list[RefusedSchedule]) -> Response:
        with after_change():
            kept = await self._store.schedules(owner)
        return answer(DeclaredSchedules(await self._views(kept), refused))

    async def _views(self, schedules: Sequence[Schedule]) -> list[ScheduleView]:
        views = []
        for number, schedule in enumerate(sorted(schedules, key=lambda one: one.name), start=1):
            views.append(schedule_view(schedule, secret_headers=self._secret_headers))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return views


def _not_found(name: str) -> ScheduleNotFound:
    return ScheduleNotFound(f"there is no schedule {name!r}")


def field_and_reason(exc: Problem | Invalid | Conflict) -> tuple[str, str]:
    """Return the refused field, "" if it is the whole schedule, and the reason."""
    if isinstance(exc, Invalid):
        return exc.field, exc.reason
    if isinstance(exc, Problem) and exc.errors:
        return exc.errors[0].field, exc.errors[0].reason
    return "", str(exc)


def _succeeding(known: Schedule, new: Schedule) -> Schedule:
    """Return a new definition with the owner, masked headers and declaration of the old one.

    Raises:
        OwnedByAnother: it is one of the original's route.
    """
    if known.owner == ORIGINAL:
        raise OwnedByAnother(
            f"{known.name!r} was pushed by the original's route, and its name stands for what it "
            "says; delete it and push another"
        )
    headers = unmasked(new.task.headers, known.task.headers)
    task = msgspec.structs.replace(new.task, headers=headers)
    return msgspec.structs.replace(new, owner=known.owner, declared=known.declared, task=task)


def _replaced(known: Schedule, new: Schedule, current: Schedule) -> Schedule:
    """Return what a schedule becomes: as it is, when it is no longer what was known of it."""
    if current.identity != known.identity:
        return current
    return redefined(current, new)


def _resumed(schedule: Schedule, *, now: Moment) -> Schedule:
    """Return a schedule that goes on with its next occurrence: a pause is not made up for."""
    if not schedule.paused:
        return schedule
    next_run_at = following(schedule, after=now)
    return msgspec.structs.replace(schedule, paused=False, next_run_at=next_run_at)
