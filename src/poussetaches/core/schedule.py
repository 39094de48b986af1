"""Schedules: an expression, its occurrences, and a task that is made at each of them.

Five fields are a crontab line, six begin with seconds; descriptors such as ``@daily`` are short
for such lines, and ``@every 90s`` counts from the schedule's anchor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from random import Random

import msgspec

from poussetaches.core.crontab import YEARS, Crontab, check_steps, read_crontab
from poussetaches.core.errors import InvalidSchedule, OwnedByAnother
from poussetaches.core.ids import new_task_id
from poussetaches.core.json_storage import Stored
from poussetaches.core.local_time import next_due
from poussetaches.core.moment import SECOND, Moment, datetime_of, later, moment_of
from poussetaches.core.retry import Wait
from poussetaches.core.setting_source import Sources
from poussetaches.core.task import MAX_DELAY, Task
from poussetaches.core.time_zone import check_zone_name, zone_named

CRONTAB_FIELDS = 5
MAX_EXPRESSION = 200  # characters; a longer one is a mistake, and costly to search
MAX_SCHEDULES = 20_000
MAX_RUNS = 100  # unfinished ones of a schedule, and missed ones that are made up for
LONGEST_GRACE = 86_400.0  # seconds; of a misfire, where the schedule says nothing

DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

# Go's time.ParseDuration: a sequence of decimal numbers, each with a unit.
_UNITS = {
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "ns": Fraction(1, 10**9),
}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:h|ms|us|µs|ns|m|s)", re.ASCII)
_PART = re.compile(r"([0-9.]+)(\D+)", re.ASCII)

# Fields that a schedule's task cannot have.
OF_ONE_RUN = ("delay", "run_at", "expires_at", "key", "key_ttl", "unique", "on_conflict")
NOT_IN_SCHEDULES = (
    "cannot be set in a schedule, where it would be the same for every run; remove it"
)


class Misfire(StrEnum):
    """The handling of occurrences that were not fired in time."""

    ONCE = "once"  # one run for the latest of them
    SKIP = "skip"  # none
    ALL = "all"  # a run for each of the latest 100


class Overlap(StrEnum):
    """The handling of an occurrence while the last run has not ended."""

    SKIP = "skip"
    ALLOW = "allow"


class RunRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings for the runs of a schedule. Null means the default."""

    misfire: Misfire | None = None
    misfire_grace: Wait | None = None
    overlap: Overlap | None = None


class Definition(Stored, frozen=True, kw_only=True):
    """A schedule as it was written, without the state that it has acquired since."""

    cron: str
    task: Task  # without an id and moments
    timezone: str = "UTC"
    misfire: Misfire = Misfire.ONCE
    misfire_grace: float | None = None
    overlap: Overlap = Overlap.SKIP


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """An expression, and a task that is created at each of its occurrences."""

    name: str
    owner: str = ""  # the application that declared it; none for one that was put by itself
    cron: str
    task: Task  # the template; its id, moments and state are unused
    created_at: Moment
    anchor_at: Moment  # occurrences come after it; @every counts from it
    next_run_at: Moment
    timezone: str = "UTC"
    misfire: Misfire = Misfire.ONCE
    misfire_grace: float | None = None  # seconds; None is the interval to the next, at most a day
    overlap: Overlap = Overlap.SKIP
    paused: bool = False
    last_fired_at: Moment | None = None  # the latest occurrence that was fired
    last_task_id: str | None = None
    declared: Definition | None = None  # last declared by code; may have been changed since

    @property
    def definition(self) -> Definition:
        """The schedule as it was written."""
        task = msgspec.structs.replace(
            self.task, id="", created_at=Moment(0), run_at=Moment(0), due_at=Moment(0)
        )
        return Definition(
            cron=self.cron,
            task=task,
            timezone=self.timezone,
            misfire=self.misfire,
            misfire_grace=self.misfire_grace,
            overlap=self.overlap,
        )

    @property
    def identity(self) -> tuple[object, ...]:
        """The values that decide whether defining the schedule again changes it."""
        return (self.name, self.owner, self.definition, self.declared)


def check_owner(name: str, *, known: str | None, owner: str) -> None:
    """Check that an owner may declare a name; ``known`` is its present owner, None if it is new.

    Raises:
        OwnedByAnother: it belongs to another owner, or (``""``) to none.
    """
    if known is not None and known != owner:
        whose = f"to {known!r}" if known else "to no owner"
        raise OwnedByAnother(f"the schedule {name!r} belongs {whose}")


def redefined(known: Schedule | None, new: Schedule) -> Schedule:
    """Return a schedule with a new definition; an existing one keeps its pause and history.

    One whose definition is the same is not touched at all, and one whose times are the same
    keeps them.
    """
    if known is None:
        return new
    if known.identity == new.identity:
        return known
    changes: dict[str, object] = {
        "created_at": known.created_at,
        "paused": known.paused,
        "last_fired_at": known.last_fired_at,
        "last_task_id": known.last_task_id,
    }
    if (known.cron, known.timezone) == (new.cron, new.timezone):
        changes |= {"anchor_at": known.anchor_at, "next_run_at": known.next_run_at}
    elif known.last_fired_at is not None and new.next_run_at <= known.last_fired_at:
        new = msgspec.structs.replace(new, last_fired_at=known.last_fired_at)
        changes["next_run_at"] = following(new, after=known.last_fired_at)
    return msgspec.structs.replace(new, **changes)


def declared_as_written(schedule: Schedule) -> Schedule:
    """Return a schedule whose definition is recorded as declared by code."""
    return msgspec.structs.replace(schedule, declared=schedule.definition)


def redeclared(known: Schedule | None, new: Schedule) -> Schedule:
    """Return a schedule as code declares it.

    If the declaration is the same as the last one, nothing changes: what an operator has changed
    since stays in force. Otherwise the declaration replaces the definition.
    """
    if known is not None and known.declared is not None and known.declared == new.declared:
        return known
    return redefined(known, new)


def sources_of(schedule: Schedule) -> Sources:
    """Return the source of each value of a schedule, in the shape of its definition.

    It is ``server`` for a default, and ``code`` for a value that code declared.
    """
    return _sources(schedule.definition, schedule.declared)


def _sources(written: msgspec.Struct, declared: msgspec.Struct | None) -> Sources:
    found: Sources = {}
    for field in msgspec.structs.fields(written):
        value, by_code = getattr(written, field.name), getattr(declared, field.name, None)
        if isinstance(value, Task):
            found[field.name] = _sources(value, by_code)
        elif value == _default_of(field):
            found[field.name] = "server"
        else:
            found[field.name] = "code" if value == by_code else "operator"
    return found


def _default_of(field: msgspec.structs.FieldInfo) -> object:
    make = field.default_factory
    return field.default if make is msgspec.NODEFAULT else make()


def run_of(schedule: Schedule, now: Moment, *, random: Random) -> Task:
    """Return the task of a run that is due now."""
    return msgspec.structs.replace(
        schedule.task,
        id=new_task_id(now, random),
        schedule=schedule.name,
        created_at=now,
        run_at=now,
        due_at=now,
    )


def following(schedule: Schedule, *, after: Moment) -> Moment:
    """Return the first occurrence after a moment, and after the last one fired.

    The last one fired may lie ahead, if the clock was set back. An expression without further
    occurrences is evaluated again in ten years.
    """
    if schedule.last_fired_at is not None:
        after = max(after, schedule.last_fired_at)
    found = next_occurrence(
        schedule.cron, anchor=schedule.anchor_at, after=after, timezone=schedule.timezone
    )
    return later(after, MAX_DELAY) if found is None else found


def check_expression(cron: str, timezone: str = "UTC") -> None:
    """Check the expression and the time zone of a stored schedule.

    Raises:
        InvalidSchedule: it cannot be read, or there is no such time zone.
    """
    _read(cron)
    zone_named(timezone)


def check_new_expression(cron: str, timezone: str = "UTC") -> None:
    """Check the expression and the time zone of a new schedule, more strictly than stored ones.

    Raises:
        InvalidSchedule: the expression cannot be read, or a step in it is too large, or the time
            zone is not in IANA's database.
    """
    if isinstance(_read(cron), Crontab):
        check_steps(_expanded(cron))
    check_zone_name(timezone)


def first_occurrence(cron: str, *, after: Moment, timezone: str = "UTC") -> Moment:
    """Return the first occurrence of a new schedule.

    Raises:
        InvalidSchedule: ``check_new_expression`` refuses it, or it has no occurrence.
    """
    check_new_expression(cron, timezone)
    found = next_occurrence(cron, anchor=after, after=after, timezone=timezone)
    if found is None:
        raise InvalidSchedule(
            "cron",
            f"{cron!r} never matches in {timezone} within {YEARS} years, since the clock skips "
            "its times; choose other times",
        )
    return found


def next_occurrence(
    cron: str, *, anchor: Moment, after: Moment, timezone: str = "UTC"
) -> Moment | None:
    """Return the first occurrence later than ``after``; None when there is none in 50 years.

    Raises:
        InvalidSchedule: the expression cannot be read.
    """
    expression, zone = _read(cron), zone_named(timezone)
    after = max(after, anchor)
    if isinstance(expression, int):
        return later(anchor, ((after - anchor) // (expression * SECOND) + 1) * expression)
    try:
        found = next_due(expression, zone, datetime_of(after))
    except OverflowError:  # past the year 9999
        return None
    return None if found is None else moment_of(found)


def occurrences(
    cron: str, *, anchor: Moment, after: Moment, timezone: str = "UTC"
) -> Iterator[Moment]:
    """Yield the occurrences later than ``after``, in their order."""
    found = next_occurrence(cron, anchor=anchor, after=after, timezone=timezone)
    while found is not None:
        yield found
        found = next_occurrence(cron, anchor=anchor, after=found, timezone=timezone)


def missed_occurrences(schedule: Schedule, *, now: Moment) -> list[Moment]:
    """Return the occurrences not after ``now`` that were not fired yet, the latest 100 at most."""
    found: list[Moment] = []
    # Backwards one by one: a long absence may have more occurrences than can be counted.
    while len(found) < MAX_RUNS:
        latest = latest_occurrence(schedule, now=now)
        if latest is None:
            break
        found.append(latest)
        now = Moment(latest - 1)
    return found[::-1]


def latest_occurrence(schedule: Schedule, *, now: Moment) -> Moment | None:
    """Return the latest occurrence not after ``now`` that was not fired yet, if there is one."""
    if schedule.next_run_at > now:
        return None
    expression = _read(schedule.cron)
    if isinstance(expression, int):
        interval = expression * SECOND
        return Moment(schedule.next_run_at + (now - schedule.next_run_at) // interval * interval)
    # There is no search backwards, so this one is bisected.
    latest, end = schedule.next_run_at, now
    while end - latest >= SECOND:
        middle = Moment((latest + end) // 2)
        found = next_occurrence(
            schedule.cron, anchor=schedule.anchor_at, after=middle, timezone=schedule.timezone
        )
        if found is None or found > now:
            end = middle
        else:
            latest = found
    return latest


def as_seconds_first(cron: str) -> str:
    """Return an expression of the original's dialect in ours.

    The original's parser takes five fields as second, minute, hour, day and month.
    """
    fields = cron.replace("?", "*").split()
    return " ".join([*fields, "*"]) if len(fields) == CRONTAB_FIELDS else " ".join(fields)


@lru_cache(maxsize=4096)
def _read(cron: str) -> Crontab | int:
    """Parse an expression: a crontab line, or ``@every`` as its seconds."""
    if len(cron) > MAX_EXPRESSION:
        raise InvalidSchedule("cron", f"has at most {MAX_EXPRESSION} characters")
    line = _expanded(cron)
    if line.startswith("@every "):
        return _seconds(line.removeprefix("@every ").strip())
    if line.startswith("@"):
        known = ", ".join([*DESCRIPTORS, "@every <duration>"])
        raise InvalidSchedule("cron", f"{line!r} is not a schedule; the descriptors are {known}")
    return read_crontab(line)


def _expanded(cron: str) -> str:
    return DESCRIPTORS.get(cron.strip(), cron.strip())


def _seconds(duration: str) -> int:
    parts = _DURATION.findall(duration)
    if not parts or "".join(parts) != duration:
        raise InvalidSchedule("cron", f"{duration!r} is not a duration such as 90s or 1h30m")
    total = Fraction(0)
    for part in parts:
        match = _PART.fullmatch(part)
        assert match is not None
        total += Fraction(match[1].rstrip(".")) * _UNITS[match[2]]
    if total.denominator != 1 or not 1 <= total <= MAX_DELAY:
        raise InvalidSchedule(
            "cron", f"@every takes whole seconds, from 1 s to ten years, not {duration}"
        )
    return int(total)
