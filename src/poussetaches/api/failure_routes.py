"""The route of failure groups, ``/v1/failures``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from poussetaches.api.endpoint import Endpoint, json_response, read_query
from poussetaches.api.views import shown_time
from poussetaches.core.responses import FailureGroupResponse
from poussetaches.core.task import TaskState
from poussetaches.core.task_fields import ShownTime
from poussetaches.store.base import FailureCount, Store


class FailuresQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to list groups of dead or of failing tasks."""

    state: Literal["dead", "failing"] = "dead"


class GroupView(FailureGroupResponse[ShownTime], kw_only=True, frozen=True):
    """A failure group, with its number of tasks, its time span and an example."""


class FailureList(msgspec.Struct, frozen=True):
    """The failure groups, largest first."""

    groups: list[GroupView]


@dataclass(frozen=True)
class FailureRoutes:
    """Serves the failure groups."""

    store: Store

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                method="GET",
                path="/v1/failures",
                handler=self.list_groups,
                summary="List the failure groups, largest first",
                tag="Tasks",
                query=FailuresQuery,
                responses={200: FailureList},
            )
        ]

    async def list_groups(self, request: Request) -> Response:
        query = read_query(request, FailuresQuery)
        state = TaskState.DEAD if query.state == "dead" else TaskState.WAITING
        counts = await self.store.failures(state)
        return json_response(FailureList([_view(count) for count in counts]))


def _view(failures: FailureCount) -> GroupView:
    return GroupView(
        group=failures.group.id,
        queue=failures.group.queue,
        url_path=failures.group.url_path,
        status=failures.group.status,
        error=failures.group.error,
        count=failures.count,
        first_at=shown_time(failures.first_at),
        last_at=shown_time(failures.last_at),
        example_id=failures.example_id,
    )
