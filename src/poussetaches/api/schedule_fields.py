"""The fields of schedules in requests and responses."""

from __future__ import annotations

from itertools import chain, islice
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, Meta, UnsetType

from poussetaches.api.definition_body import HINTS, READ_ONLY
from poussetaches.api.views import shown_time, shown_time_or_none, task_view
from poussetaches.core.errors import BodyTooLarge, InvalidSchedule, InvalidTask, TargetNotAllowed
from poussetaches.core.moment import Moment, datetime_of
from poussetaches.core.new_task import TaskBuilder
from poussetaches.core.queue import Name
from poussetaches.core.responses import OccurrenceResponse, ScheduleResponse
from poussetaches.core.schedule import (
    MAX_EXPRESSION,
    NOT_IN_SCHEDULES,
    OF_ONE_RUN,
    Misfire,
    Overlap,
    RunRules,
    Schedule,
    first_occurrence,
    occurrences,
    sources_of,
)
from poussetaches.core.setting_source import Source
from poussetaches.core.task import Task
from poussetaches.core.task_fields import (
    ShownTime,
    TaskFields,
    TaskTemplate,
    TemplatePatch,
    TemplateSources,
    TemplateView,
)

CODE = "invalid-schedule"
SHOWN_RUNS = 5  # upcoming runs in responses

SET_HINTS = {
    **HINTS,
    **dict.fromkeys(("created_at", "next_runs", "last_run_at", "last_task_id"), READ_ONLY),
    "owner": "can only be set by PUT /v1/schedules; remove it",
    **{f"task.{field}": NOT_IN_SCHEDULES for field in OF_ONE_RUN},
}
SCHEDULE_HINTS = {**SET_HINTS, "name": "is part of the path; remove it"}

Cron = Annotated[str, Meta(min_length=1, max_length=MAX_EXPRESSION, examples=["@hourly"])]
Timezone = Annotated[str, Meta(min_length=1, max_length=100, examples=["Europe/Paris"])]
Version = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _AnySchedule(RunRules, frozen=True, kw_only=True):
    """The fields that schedules and patches of schedules have in common."""

    timezone: Timezone | None = None


class ScheduleFields(_AnySchedule, frozen=True, kw_only=True):
    """A schedule as it is put; null is the same as leaving a field out."""

    cron: Cron
    task: TaskTemplate


class SchedulePatch(_AnySchedule, frozen=True, kw_only=True):
    """Changes of a schedule (RFC 7396); null resets a field."""

    cron: Cron | UnsetType = UNSET
    task: TemplatePatch | UnsetType = UNSET


class DeclaredSchedule(ScheduleFields, frozen=True, kw_only=True):
    """One schedule of a set."""

    name: Name


class Occurrence(OccurrenceResponse[ShownTime], frozen=True):
    """A moment at which a schedule is due, in UTC and in its time zone."""


class ScheduleSources(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of a schedule's values."""

    cron: Source
    timezone: Source
    task: TemplateSources
    misfire: Source
    misfire_grace: Source
    overlap: Source


class ScheduleView(ScheduleResponse[ShownTime], frozen=True, kw_only=True):
    """A schedule in responses."""

    task: TemplateView
    misfire: Misfire
    overlap: Overlap
    next_runs: list[Occurrence]
    sources: ScheduleSources


class ScheduleBuilder:
    """Makes the schedules of one request, with the same creation time."""

    def __init__(self, tasks: TaskBuilder, *, now: Moment) -> None:
        self._tasks = tasks
        self._now = now

    def build(
        self, name: str, fields: ScheduleFields, *, owner: str = "", prefix: str = ""
    ) -> Schedule:
        """Return the schedule with these fields; ``prefix`` precedes their names in errors.

        Raises:
            InvalidSchedule: a field has a value that is not allowed.
            BodyTooLarge: the task's body is too long.
            TooMany: a run would create a queue beyond the maximum.
        """
        timezone = fields.timezone or "UTC"
        try:
            next_run_at = first_occurrence(fields.cron, after=self._now, timezone=timezone)
        except InvalidSchedule as exc:
            raise InvalidSchedule(prefix + exc.field, exc.reason) from None
        return Schedule(
            name=name,
            owner=owner,
            cron=fields.cron,
            timezone=timezone,
            task=self._template(fields.task, prefix),
            misfire=fields.misfire or Misfire.ONCE,
            misfire_grace=fields.misfire_grace,
            overlap=fields.overlap or Overlap.SKIP,
            created_at=self._now,
            anchor_at=self._now,
            next_run_at=next_run_at,
        )

    def _template(self, fields: TaskTemplate, prefix: str) -> Task:
        try:
            return self._tasks.build(TaskFields(**msgspec.structs.asdict(fields)))
        except (BodyTooLarge, TargetNotAllowed) as exc:
            raise type(exc)(f"{prefix}task.{exc.field}", exc.reason) from None
        except InvalidTask as exc:
            raise InvalidSchedule(f"{prefix}task.{exc.field}", exc.reason) from None


def schedule_view(schedule: Schedule, *, secret_headers: frozenset[str]) -> ScheduleView:
    """Return the view of a schedule; ``secret_headers`` are lower-case names."""
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
        created_at=shown_time(schedule.created_at),
        next_runs=_next_runs(schedule),
        last_run_at=shown_time_or_none(schedule.last_fired_at),
        last_task_id=schedule.last_task_id,
        sources=msgspec.convert(sources_of(schedule), ScheduleSources),
    )


def template_view(task: Task, *, secret_headers: frozenset[str]) -> TemplateView:
    """Return the view of a template; ``secret_headers`` are lower-case names."""
    view = task_view(task, secret_headers=secret_headers)
    return TemplateView(**{name: getattr(view, name) for name in TemplateView.__struct_fields__})


def occurrence(moment: Moment, timezone: str) -> Occurrence:
    """Return the view of a moment, in UTC and in a time zone."""
    local = datetime_of(moment).astimezone(ZoneInfo(timezone))
    return Occurrence(utc=shown_time(moment), local=local.isoformat(timespec="microseconds"))


def _next_runs(schedule: Schedule) -> list[Occurrence]:
    if schedule.paused:
        return []
    later = occurrences(
        schedule.cron,
        anchor=schedule.anchor_at,
        after=schedule.next_run_at,
        timezone=schedule.timezone,
    )
    moments = islice(chain([schedule.next_run_at], later), SHOWN_RUNS)
    return [occurrence(moment, schedule.timezone) for moment in moments]
