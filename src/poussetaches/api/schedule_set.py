"""The sets of schedules that applications declare, ``PUT /v1/schedules``."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta

from poussetaches.api.definition_body import decode_definition
from poussetaches.api.problems import Problem, invalid
from poussetaches.api.schedule_fields import (
    CODE,
    SET_HINTS,
    DeclaredSchedule,
    ScheduleBuilder,
    Version,
)
from poussetaches.api.schedule_patch import successor
from poussetaches.core.errors import Conflict, Invalid
from poussetaches.core.queue import Name
from poussetaches.core.responses import RefusedSchedule
from poussetaches.core.schedule import MAX_SCHEDULES, Schedule, check_owner, declared_as_written
from poussetaches.core.schedule_owner import check_same_application
from poussetaches.store.base import Store

YIELD_EVERY = 50  # schedules between turns of the event loop: each takes up to 1 ms

_DECLARED = msgspec.json.Decoder(DeclaredSchedule)


class ScheduleSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All the schedules of an owner. A stored set with a higher version is kept."""

    owner: Name
    version: Version | None = None
    schedules: Annotated[list[DeclaredSchedule], Meta(max_length=MAX_SCHEDULES)]


class SetQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether invalid schedules are left out of the set, instead of refusing the whole set."""

    partial: bool = False


class UndecodedSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ``ScheduleSet`` whose schedules are decoded one by one."""

    owner: Name
    version: Version | None = None
    schedules: Annotated[list[msgspec.Raw], Meta(max_length=MAX_SCHEDULES)]


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


async def read_set(
    given: UndecodedSet, *, store: Store, builder: ScheduleBuilder, partial: bool
) -> tuple[list[Schedule], list[RefusedSchedule]]:
    """Return the schedules to store for an owner, and the refused ones of a ``partial`` set.

    A refused schedule that the owner already has stays unchanged.
    """
    stored = {schedule.name: schedule for schedule in await store.schedules(given.owner)}
    accepted, refused = dict[str, Schedule](), list[RefusedSchedule]()
    for number, undecoded in enumerate(given.schedules):
        name, prefix = _name_in(undecoded), f"schedules[{number}]."
        try:
            if name in accepted:
                raise invalid(CODE, f"{prefix}name", f"{name!r} appears twice")
            if partial and name not in stored:  # otherwise the store checks it
                other = await store.schedule(name)
                check_owner(name, known=None if other is None else other.owner, owner=given.owner)
            fields = _decoded(undecoded, prefix)
            schedule = builder.build(name, fields, owner=given.owner, prefix=prefix)
        except (Problem, Invalid, Conflict) as exc:
            if not partial:
                raise
            field, reason = _field_and_reason(exc)
            refused.append(RefusedSchedule(name, field.removeprefix(prefix), reason))
            if name in stored:
                accepted.setdefault(name, stored[name])
        else:
            if name in stored:
                schedule = successor(stored[name], schedule)
            accepted[name] = declared_as_written(schedule)
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    check_same_application(given.owner, stored.values(), accepted.values())
    return list(accepted.values()), refused


def _name_in(undecoded: msgspec.Raw) -> str:
    """Return the name in a schedule that may be invalid otherwise; "" if it has none."""
    try:
        return msgspec.json.decode(undecoded, type=_Named).name
    except msgspec.DecodeError:
        return ""


def _decoded(undecoded: msgspec.Raw, prefix: str) -> DeclaredSchedule:
    try:
        return decode_definition(_DECLARED, bytes(undecoded), hints=SET_HINTS, code=CODE)
    except Problem as exc:
        if not exc.errors:
            raise
        field, reason = _field_and_reason(exc)
        raise invalid(CODE, prefix + field, reason) from None


def _field_and_reason(exc: Problem | Invalid | Conflict) -> tuple[str, str]:
    """Return the refused field, "" if it is the whole schedule, and the reason."""
    if isinstance(exc, Invalid):
        return exc.field, exc.reason
    if isinstance(exc, Problem) and exc.errors:
        return exc.errors[0].field, exc.errors[0].reason
    return "", str(exc)
