"""The clients' methods for schedules."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Unpack

from poussetaches.client import requests
from poussetaches.client.caller import Caller
from poussetaches.client.dual_method import dual_iterator, dual_method
from poussetaches.client.fields import DeclaredSchedule, ScheduleFields
from poussetaches.client.results import DeclaredSchedules, Occurrence, ScheduleInfo, TaskInfo


class ScheduleMethods(Caller):
    """Methods for schedules."""

    @dual_method
    async def schedules(self) -> Sequence[ScheduleInfo]:
        """Return the schedules of all owners, sorted by name."""
        return await self._send(requests.schedules())

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
        return await self._send(requests.put_schedules(owner, version, schedules))

    @dual_method
    async def declare_schedules(
        self,
        owner: str,
        version: int | None,
        schedules: Iterable[DeclaredSchedule | Mapping[str, Any]],
    ) -> DeclaredSchedules:
        """Declare all schedules of an owner, and return those that the server refused as well.

        Its other schedules are deleted. A refused schedule stays as it is on the server.

        Raises:
            Conflict: a higher version was declared before.
        """
        return await self._send(requests.declare_schedules(owner, version, schedules))

    @dual_method
    async def schedule(self, name: str) -> ScheduleInfo:
        """Return a schedule.

        Raises:
            NotFound: there is no schedule with this name.
        """
        return await self._send(requests.schedule(name))

    @dual_method
    async def put_schedule(self, name: str, **fields: Unpack[ScheduleFields]) -> ScheduleInfo:
        """Create or replace a schedule; a replaced one keeps its pause and its history."""
        return await self._send(requests.put_schedule(name, fields))

    @dual_method
    async def edit_schedule(self, name: str, patch: Mapping[str, Any]) -> ScheduleInfo:
        """Change a schedule by a merge patch; None resets a field."""
        return await self._send(requests.edit_schedule(name, patch))

    @dual_method
    async def delete_schedule(self, name: str) -> None:
        """Delete a schedule and its waiting runs."""
        await self._send(requests.delete_schedule(name))

    @dual_method
    async def run_schedule(self, name: str) -> TaskInfo:
        """Start a run of a schedule now; its other runs are not affected."""
        return await self._send(requests.run_schedule(name))

    @dual_iterator
    async def schedule_runs(
        self, name: str, *, page_size: int = 100
    ) -> AsyncGenerator[TaskInfo, None]:
        """Yield the runs of a schedule, latest first; pages are fetched as needed."""
        cursor = None
        while True:
            page = await self._send(requests.runs(name, limit=page_size, cursor=cursor))
            for task in page.tasks:
                yield task
            cursor = page.next_cursor
            if cursor is None:
                return

    @dual_method
    async def pause_schedule(self, name: str) -> ScheduleInfo:
        """Pause a schedule: no more runs start."""
        return await self._send(requests.set_schedule_paused(name, "pause"))

    @dual_method
    async def resume_schedule(self, name: str) -> ScheduleInfo:
        """Resume a paused schedule; runs that were missed during the pause do not start."""
        return await self._send(requests.set_schedule_paused(name, "resume"))

    @dual_method
    async def preview(
        self, cron: str, *, timezone: str = "UTC", count: int = 5
    ) -> Sequence[Occurrence]:
        """Return the next occurrences of an expression, for a schedule created now."""
        return await self._send(requests.preview(cron, timezone, count))
