"""The failures: dead and failing tasks, grouped by what they have in common."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import Endpoint, answer, read_query
from poussetaches.api.views import shown
from poussetaches.core.responses import FailureGroupResponse
from poussetaches.core.task import TaskState
from poussetaches.core.task_fields import ShownTime
from poussetaches.store.base import FailureCount, Store


class FailuresQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the groups of dead or of failing tasks are wanted."""

    state: Literal["dead", "failing"] = "dead"


class GroupView(FailureGroupResponse[ShownTime], kw_only=True, frozen=True):
    """A failure group, with how many tasks it has, since when, and one of them."""


class FailureList(msgspec.Struct, frozen=True):
    """The failure groups, the largest first."""

    groups: list[GroupView]


class FailureRoutes:
    """Serves the failure groups from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def endpoints(self) -> list[Endpoint]:
        """Return the row of the API."""
        return [
            Endpoint(
                method="GET",
                path="/v1/failures",
                handler=self.list_groups,
                summary="List the failure groups, the largest first",
                tag="Tasks",
                query=FailuresQuery,
                answers={200: FailureList},
            )
        ]

    async def list_groups(self, request: Request) -> Response:
        """List the groups of dead, or of failing, tasks."""
        query = read_query(request, FailuresQuery)
        state = TaskState.DEAD if query.state == "dead" else TaskState.WAITING
        found = await self._store.failures(state)
        return answer(FailureList([_view(one) for one in found]))


def _view(found: FailureCount) -> GroupView:
    return GroupView(
        group=found.group.id,
        queue=found.group.queue,
        url_path=found.group.url_path,
        status=found.group.status,
        error=found.group.error,
        count=found.count,
        first_at=shown(found.first_at),
        last_at=shown(found.last_at),
        example_id=found.example_id,
    )
