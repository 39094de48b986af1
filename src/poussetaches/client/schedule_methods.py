"""The clients' methods for schedules."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Unpack

from poussetaches.client.call import Call, Query, path_of
from poussetaches.client.caller import Caller
from poussetaches.client.dual_method import dual_iterator, dual_method
from poussetaches.client.request_fields import DeclaredSchedule, ScheduleFields
from poussetaches.client.request_json import encode_request
from poussetaches.client.results import (
    DeclaredSchedules,
    Occurrence,
    Preview,
    ScheduleInfo,
    ScheduleList,
    TaskInfo,
)

SCHEDULES = "/v1/schedules"
PARTIAL: Query = (("partial", "true"),)  # older servers ignore it, and refuse the whole set


class ScheduleMethods(Caller):
    """Methods for schedules."""

    @dual_method
    async def schedules(self) -> Sequence[ScheduleInfo]:
        """Return the schedules of all owners, sorted by name."""
        return (await self._read(Call("GET", SCHEDULES), ScheduleList)).schedules

    @dual_method
    async def put_schedules(
        self,
        owner: str,
        version: int | None,
        schedules: Iterable[DeclaredSchedule | Mapping[str, Any]],
    ) -> Sequence[ScheduleInfo]:
        """Declare all schedules of an owner; its other schedules are deleted.

        Raises:
            Conflict: a name belongs to another owner, or a higher version was declared before.
        """
        body = _declaration(owner, version, schedules)
        return (await self._read(Call("PUT", SCHEDULES, body=body), ScheduleList)).schedules

    @dual_method
    async def declare_schedules(
        self,
        owner: str,
        version: int | None,
        schedules: Iterable[DeclaredSchedule | Mapping[str, Any]],
    ) -> DeclaredSchedules:
        """Declare all schedules of an owner, and return them with the refused ones.

        Its other schedules are deleted. A refused schedule stays as it is on the server.

        Raises:
            Conflict: a higher version was declared before.
        """
        body = _declaration(owner, version, schedules)
        return await self._read(Call("PUT", SCHEDULES, PARTIAL, body), DeclaredSchedules)

    @dual_method
    async def schedule(self, name: str) -> ScheduleInfo:
        """Return a schedule.

        Raises:
            NotFound: there is no schedule with this name.
        """
        return await self._read(Call("GET", path_of(SCHEDULES, name)), ScheduleInfo)

    @dual_method
    async def put_schedule(self, name: str, **fields: Unpack[ScheduleFields]) -> ScheduleInfo:
        """Create or replace a schedule; a replaced one keeps its pause and its history."""
        call = Call("PUT", path_of(SCHEDULES, name), body=encode_request(fields))
        return await self._read(call, ScheduleInfo)

    @dual_method
    async def edit_schedule(self, name: str, patch: Mapping[str, Any]) -> ScheduleInfo:
        """Change a schedule by a merge patch; None resets a field."""
        call = Call("PATCH", path_of(SCHEDULES, name), body=encode_request(patch))
        return await self._read(call, ScheduleInfo)

    @dual_method
    async def delete_schedule(self, name: str) -> None:
        """Delete a schedule and its waiting runs."""
        await self._do(Call("DELETE", path_of(SCHEDULES, name)))

    @dual_method
    async def run_schedule(self, name: str) -> TaskInfo:
        """Start a run of a schedule now; its other runs are not affected."""
        return await self._read(Call("POST", path_of(SCHEDULES, name, "run")), TaskInfo)

    @dual_iterator
    def schedule_runs(self, name: str, *, page_size: int = 100) -> AsyncGenerator[TaskInfo, None]:
        """Yield the runs of a schedule, latest first; pages are fetched as needed."""
        return self._pages(path_of(SCHEDULES, name, "runs"), (), page_size=page_size)

    @dual_method
    async def pause_schedule(self, name: str) -> ScheduleInfo:
        """Pause a schedule: no more runs start."""
        return await self._read(Call("POST", path_of(SCHEDULES, name, "pause")), ScheduleInfo)

    @dual_method
    async def resume_schedule(self, name: str) -> ScheduleInfo:
        """Resume a paused schedule; runs that were missed during the pause do not start."""
        return await self._read(Call("POST", path_of(SCHEDULES, name, "resume")), ScheduleInfo)

    @dual_method
    async def preview(
        self, cron: str, *, timezone: str = "UTC", count: int = 5
    ) -> Sequence[Occurrence]:
        """Return the next occurrences of an expression, for a schedule created now."""
        document = {"cron": cron, "timezone": timezone, "count": count}
        call = Call("POST", f"{SCHEDULES}/preview", body=encode_request(document))
        return (await self._read(call, Preview)).next_runs


def _declaration(
    owner: str, version: int | None, schedules: Iterable[DeclaredSchedule | Mapping[str, Any]]
) -> bytes:
    return encode_request({"owner": owner, "version": version, "schedules": list(schedules)})
