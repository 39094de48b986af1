"""What may be said of a schedule, how it is read into one, and how one is shown."""

from __future__ import annotations

from itertools import chain, islice
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, Meta, UnsetType

from poussetaches.api.views import shown, shown_or_none, task_view
from poussetaches.core.errors import BodyTooLarge, InvalidSchedule, InvalidTask, TargetNotAllowed
from poussetaches.core.moment import Moment, datetime_of
from poussetaches.core.new_task import TaskBuilder
from poussetaches.core.queue import Name
from poussetaches.core.responses import OccurrenceResponse, ScheduleResponse
from poussetaches.core.schedule import (
    MAX_EXPRESSION,
    MAX_SCHEDULES,
    NOT_IN_SCHEDULES,
    OF_ONE_RUN,
    Misfire,
    Overlap,
    RunRules,
    Schedule,
    first_occurrence,
    occurrences,
    origins_of,
)
from poussetaches.core.setting_origin import Origin
from poussetaches.core.task import Task
from poussetaches.core.task_fields import (
    ShownTime,
    TaskFields,
    TaskTemplate,
    TemplateOrigins,
    TemplatePatch,
    TemplateView,
)

SHOWN_RUNS = 5  # of those to come

_READ_ONLY = "is only to be read; leave it out"
HINTS = {
    "name": "stands in the path; leave it out",
    "paused": "is changed by POST …/pause and …/resume only; leave it out",
    "owner": "is said by PUT /v1/schedules only; leave it out",
    "created_at": _READ_ONLY,
    "next_runs": _READ_ONLY,
    "last_run_at": _READ_ONLY,
    "last_task_id": _READ_ONLY,
    "origins": _READ_ONLY,
    **{f"task.{field}": NOT_IN_SCHEDULES for field in OF_ONE_RUN},
}
SET_HINTS = {field: hint for field, hint in HINTS.items() if field != "name"}

Cron = Annotated[str, Meta(min_length=1, max_length=MAX_EXPRESSION, examples=["@hourly"])]
Timezone = Annotated[str, Meta(min_length=1, max_length=100, examples=["Europe/Paris"])]
Version = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _AnySchedule(RunRules, frozen=True, kw_only=True):
    """What a schedule and a patch of one have in common."""

    timezone: Timezone | None = None


class ScheduleFields(_AnySchedule, frozen=True, kw_only=True):
    """A schedule as it is put; null stands for what is not said."""

    cron: Cron
    task: TaskTemplate


class SchedulePatch(_AnySchedule, frozen=True, kw_only=True):
    """Changes of a schedule (RFC 7396); null resets."""

    cron: Cron | UnsetType = UNSET
    task: TemplatePatch | UnsetType = UNSET


class DeclaredSchedule(ScheduleFields, frozen=True, kw_only=True):
    """One schedule of a set."""

    name: Name


class ScheduleSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All the schedules of an owner; one that has a higher version is kept."""

    owner: Name
    version: Version | None = None
    schedules: Annotated[list[DeclaredSchedule], Meta(max_length=MAX_SCHEDULES)]


class SetQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether invalid schedules are left out of the set, instead of refusing the whole set."""

    partial: bool = False


class UnreadSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ``ScheduleSet`` whose schedules are decoded one by one."""

    owner: Name
    version: Version | None = None
    schedules: Annotated[list[msgspec.Raw], Meta(max_length=MAX_SCHEDULES)]


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


def name_in(schedule: msgspec.Raw) -> str:
    """Return the name in a schedule that may be invalid otherwise; "" if it has none."""
    try:
        return msgspec.json.decode(schedule, type=_Named).name
    except msgspec.DecodeError:
        return ""


class Occurrence(OccurrenceResponse[ShownTime], frozen=True):
    """A moment at which a schedule is due, also as the clocks of its time zone show it."""


class ScheduleOrigins(msgspec.Struct, frozen=True, kw_only=True):
    """The origins of a schedule's values."""

    cron: Origin
    timezone: Origin
    task: TemplateOrigins
    misfire: Origin
    misfire_grace: Origin
    overlap: Origin


class ScheduleView(ScheduleResponse[ShownTime], frozen=True, kw_only=True):
    """A schedule as it is answered."""

    task: TemplateView
    misfire: Misfire
    overlap: Overlap
    next_runs: list[Occurrence]
    origins: ScheduleOrigins


class ScheduleBuilder:
    """Makes the schedules of one request, all of which begin at the same moment."""

    def __init__(self, tasks: TaskBuilder, *, now: Moment) -> None:
        self._tasks = tasks
        self._now = now

    def build(
        self, name: str, fields: ScheduleFields, *, owner: str = "", place: str = ""
    ) -> Schedule:
        """Return the schedule that fields stand for; ``place`` is where they stand themselves.

        Raises:
            InvalidSchedule: a field has a value that is not allowed.
            BodyTooLarge: the task's body is longer than is allowed.
            TooMany: a run would make one queue too many.
        """
        timezone = fields.timezone or "UTC"
        try:
            next_run_at = first_occurrence(fields.cron, after=self._now, timezone=timezone)
        except InvalidSchedule as exc:
            raise InvalidSchedule(place + exc.field, exc.reason) from None
        return Schedule(
            name=name,
            owner=owner,
            cron=fields.cron,
            timezone=timezone,
            task=self._template(fields.task, place),
            misfire=fields.misfire or Misfire.ONCE,
            misfire_grace=fields.misfire_grace,
            overlap=fields.overlap or Overlap.SKIP,
            created_at=self._now,
            anchor_at=self._now,
            next_run_at=next_run_at,
        )

    def _template(self, fields: TaskTemplate, place: str) -> Task:
        try:
            return self._tasks.build(TaskFields(**msgspec.structs.asdict(fields)))
        except BodyTooLarge as exc:
            raise BodyTooLarge(f"{place}task.{exc.field}", exc.reason) from None
        except TargetNotAllowed as exc:
            raise TargetNotAllowed(f"{place}task.{exc.field}", exc.reason) from None
        except InvalidTask as exc:
            raise InvalidSchedule(f"{place}task.{exc.field}", exc.reason) from None


def schedule_view(schedule: Schedule, *, secret_headers: frozenset[str]) -> ScheduleView:
    """Return a schedule as it is shown; ``secret_headers`` are lower-case names."""
    return ScheduleView(
        name=schedule.name,
        owner=schedule.owner or None,
        cron=schedule.cron,
        timezone=schedule.timezone,
        task=template_view(schedule.task, secret_headers=secret_headers),
        misfire=schedule.misfire,
        misfire_grace=schedule.misfire_grace,
        overlap=schedule.overlap,
        paused=schedule.paused,
        created_at=shown(schedule.created_at),
        next_runs=_next_runs(schedule),
        last_run_at=shown_or_none(schedule.last_fired_at),
        last_task_id=schedule.last_task_id,
        origins=msgspec.convert(origins_of(schedule), ScheduleOrigins),
    )


def template_view(task: Task, *, secret_headers: frozenset[str]) -> TemplateView:
    """Return a template as it is shown; ``secret_headers`` are lower-case names."""
    view = task_view(task, secret_headers=secret_headers)
    return TemplateView(**{name: getattr(view, name) for name in TemplateView.__struct_fields__})


def occurrence(moment: Moment, timezone: str) -> Occurrence:
    """Return a moment as it is shown, also in a time zone."""
    local = datetime_of(moment).astimezone(ZoneInfo(timezone))
    return Occurrence(utc=shown(moment), local=local.isoformat(timespec="microseconds"))


def _next_runs(schedule: Schedule) -> list[Occurrence]:
    if schedule.paused:
        return []
    following = occurrences(
        schedule.cron,
        anchor=schedule.anchor_at,
        after=schedule.next_run_at,
        timezone=schedule.timezone,
    )
    found = islice(chain([schedule.next_run_at], following), SHOWN_RUNS)
    return [occurrence(moment, schedule.timezone) for moment in found]
